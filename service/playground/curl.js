// The command that asks the same: what was sent, as a form with the image as a file part.

// `key` is whether the request has one; the command takes it from the environment and never holds it.
export function command({ address, task, text, picture, topK, hasKey }) {
  const parts = [["--form-string", `task=${task}`]];
  if (picture) parts.push(["-F", `image=@${fileName(picture.name)}`]);
  if (text) parts.push(["--form-string", `text=${text}`]);
  parts.push(["-F", `top_k=${topK}`], ["-F", "explain=true"]);
  const lines = parts.map(([flag, value]) => `${flag} ${quoted(value)}`);
  if (hasKey) lines.unshift('-H "Authorization: Bearer $MORA_API_KEY"');
  return ["curl", ...lines, quoted(address)].join(" \\\n  ");
}

// To curl a quoted name is one name, whatever is in it.
const fileName = (name) => `"${name.replace(/[\\"]/g, "\\$&")}"`;

// To a shell nothing between single quotes means anything.
const quoted = (value) => (/^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`);
