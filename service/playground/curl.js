// The command that asks the same: what was sent, as a form with the image as a file part. An example's picture is
// fetched first, since it lies on no disk.

// `hasKey` is whether the request has one; the command takes it from the environment and never holds it.
export function command({ address, task, text, picture, topK, hasKey }) {
  const key = hasKey ? ['-H "Authorization: Bearer $MORA_API_KEY"'] : [];
  const parts = [["--form-string", `task=${task}`]];
  if (picture) parts.push(["-F", `image=@${fileName(picture.name)}`]);
  if (text) parts.push(["--form-string", `text=${text}`]);
  parts.push(["-F", `top_k=${topK}`], ["-F", "explain=true"]);
  const lines = parts.map(([flag, value]) => `${flag} ${quoted(value)}`);
  const asked = ["curl", ...key, ...lines, quoted(address)].join(" \\\n  ");
  if (!picture?.address) return asked;
  return `${["curl", ...key, "-o", quoted(picture.name), quoted(picture.address)].join(" ")}\n${asked}`;
}

// To curl a quoted name is one name, whatever is in it.
const fileName = (name) => `"${name.replace(/[\\"]/g, "\\$&")}"`;

// To a shell nothing between single quotes means anything.
const quoted = (value) => (/^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`);
