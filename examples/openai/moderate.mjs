// Labels and encodes one item with OpenAI's client: node moderate.mjs URL TASK [--image FILE] [--text TEXT]
// URL is the service's, such as http://localhost:8000/v1. A key, if the service needs one, is in OPENAI_API_KEY.
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import OpenAI from "openai";

const { values, positionals } = parseArgs({
  options: { image: { type: "string" }, text: { type: "string" } },
  allowPositionals: true,
});
const [baseURL, model] = positionals;
const input = [];
if (values.text !== undefined) input.push({ type: "text", text: values.text });
if (values.image !== undefined) {
  const data = (await readFile(values.image)).toString("base64");
  input.push({ type: "image_url", image_url: { url: `data:;base64,${data}` } });
}

const client = new OpenAI({ baseURL, apiKey: process.env.OPENAI_API_KEY ?? "none", maxRetries: 0 });
try {
  const moderation = await client.moderations.create({ model, input });
  const embedding = await client.embeddings.create({ model, input });
  console.log(JSON.stringify({ ...moderation.results[0], embedding: embedding.data[0].embedding }));
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  const { status, code, param, message, requestID } = error;
  console.error(JSON.stringify({ error: error.constructor.name, status, code, param, message, requestID }));
  process.exitCode = 1;
}
