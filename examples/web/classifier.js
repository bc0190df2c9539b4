// A classifier in an .onnx file that `flaxmobile export --raw-images --probabilities` wrote.
// The file says itself how images are prepared and what its classes are called.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("node_modules/onnxruntime-web/dist/", import.meta.url).href;

export class Classifier {
  constructor(session, facts) {
    this.session = session;
    this.names = facts.class_names;
    const { image_size: size, resize_size: shorter } = facts.preprocessing;
    [this.height, this.width] = Array.isArray(size) ? size : [size, size];
    this.shorter = shorter ?? Math.round(Math.max(this.height, this.width) / 0.875);
    this.network = facts.network;
  }

  // Reads the bytes of a file; throws where it is none that this page can run.
  static async read(bytes) {
    const facts = readFacts(bytes);
    if (!facts.preprocessing) throw new Error("not an .onnx file of flaxmobile");
    if (!facts.raw_images || facts.answer === "none")
      throw new Error("export the network with --raw-images --probabilities");
    return new Classifier(await ort.InferenceSession.create(bytes), facts);
  }

  // Resizes the shorter side of an image or video frame and cuts out the centre, onto a canvas.
  draw(source, canvas) {
    const width = source.videoWidth || source.width, height = source.videoHeight || source.height;
    const scale = this.shorter / Math.min(width, height);
    const [w, h] = [Math.trunc(width * scale), Math.trunc(height * scale)];
    [canvas.width, canvas.height] = [this.width, this.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(
      source, Math.round((this.width - w) / 2), Math.round((this.height - h) / 2), w, h);
  }

  // Returns the classes of the canvas, the best first: [{name, probability}].
  async classify(canvas) {
    const { data } = canvas.getContext("2d").getImageData(0, 0, this.width, this.height);
    const pixels = new Uint8Array(this.width * this.height * 3); // without alpha
    for (let from = 0, to = 0; from < data.length; from += 4, to += 3)
      pixels.set(data.subarray(from, from + 3), to);
    const images = new ort.Tensor("uint8", pixels, [1, this.height, this.width, 3]);
    const { probabilities } = await this.session.run({ images });
    return Array.from(probabilities.data, (probability, index) => (
      { name: this.names?.[index] ?? `class ${index}`, probability }
    )).sort((one, other) => other.probability - one.probability);
  }
}

// Reads metadata_props of an ONNX file, field 14 of its ModelProto; values are JSON or words.
function readFacts(bytes) {
  const text = new TextDecoder(), facts = {};
  for (const [field, entry] of fieldsOf(bytes)) {
    if (field !== 14) continue;
    const { 1: key, 2: value } = Object.fromEntries(fieldsOf(entry));
    const word = text.decode(value);
    try {
      facts[text.decode(key)] = JSON.parse(word);
    } catch {
      facts[text.decode(key)] = word;
    }
  }
  return facts;
}

// Yields [number, bytes] of the fields of a protocol buffer that are bytes or messages.
function* fieldsOf(bytes) {
  let at = 0;
  const readNumber = () => {
    let number = 0, byte;
    for (let scale = 1; ; scale *= 128) {
      byte = bytes[at++];
      number += (byte & 127) * scale;
      if (!(byte & 128)) return number;
    }
  };
  while (at < bytes.length) {
    const tag = readNumber();
    const skipped = { 0: () => readNumber(), 1: () => (at += 8), 5: () => (at += 4) }[tag & 7];
    if (skipped) skipped();
    else if ((tag & 7) !== 2) throw new Error("not an .onnx file");
    else {
      const length = readNumber();
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    }
  }
}
