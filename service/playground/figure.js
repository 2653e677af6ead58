// Numbers in readable form.

const twoDigits = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
const share = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const signed = new Intl.NumberFormat("en", { signDisplay: "always", ...twoDigits });
const plain = new Intl.NumberFormat("en", twoDigits);
const whole = new Intl.NumberFormat("en");

export const percent = (value) => share.format(value);
export const signedLogit = (value) => signed.format(value).replace("-", "\u2212");
export const decimal = (value) => plain.format(value);
export const count = (value) => whole.format(value);
export const milliseconds = (value) => `${plain.format(value)} ms`;

export function bytes(size) {
  if (size < 1000) return `${size} bytes`;
  return size < 1e6 ? `${(size / 1e3).toFixed(0)} kB` : `${(size / 1e6).toFixed(1)} MB`;
}
