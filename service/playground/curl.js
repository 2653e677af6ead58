// The curl command for the same request: a form with the image as a file part. The picture of an example is
// fetched first, because it is not on the user's disk.

// `hasKey`: whether the request has a key; the command reads the key from the environment and never contains it.
// `isSearch`: whether the request asks for a vector, which has no `top_k` and no explanation.
export function command({ address, task, text, picture, topK, coverage, hasKey, isSearch }) {
  const key = hasKey ? ['-H "Authorization: Bearer $MORA_API_KEY"'] : [];
  const parts = [["--form-string", `task=${task}`]];
  if (picture) parts.push(["-F", `image=@${fileName(picture.name)}`]);
  if (text) parts.push(["--form-string", `text=${text}`]);
  if (!isSearch) parts.push(["-F", `top_k=${topK}`]);
  if (coverage && !isSearch) parts.push(["-F", `coverage=${coverage}`]);
  if (!isSearch) parts.push(["-F", "explain=true"]);
  const lines = parts.map(([flag, value]) => `${flag} ${quoted(value)}`);
  const asked = ["curl", ...key, ...lines, quoted(address)].join(" \\\n  ");
  if (!picture?.address) return asked;
  return `${["curl", ...key, "-o", quoted(picture.name), quoted(picture.address)].join(" ")}\n${asked}`;
}

// curl reads a quoted name as one name.
const fileName = (name) => `"${name.replace(/[\\"]/g, "\\$&")}"`;

// A shell interprets nothing between single quotes.
const quoted = (value) => (/^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", `'\\''`)}'`);
