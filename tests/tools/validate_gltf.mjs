// Print the Khronos glTF validator's report on one file as JSON, called as its own program is:
//   node validate_gltf.mjs -o FILE
// The setting GLTF_VALIDATOR may name it where that program isn't installed.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import validator from "gltf-validator";

const path = process.argv.at(-1);
try {
  const report = await validator.validateBytes(new Uint8Array(await readFile(path)), {
    uri: basename(path),
    maxIssues: 100,
    writeTimestamp: false,
  });
  console.log(JSON.stringify(report));
} catch (error) {
  // The validator rejects with a plain string when the bytes are no glTF at all.
  console.error(String(error));
  process.exit(1);
}
