import { Classifier } from "./classifier.js";

const $ = (id) => document.getElementById(id);
let classifier, stream;

// Runs a task, and shows its error instead of throwing it.
async function guarded(task) {
  $("error").textContent = "";
  try {
    await task();
  } catch (error) {
    $("error").textContent = error.message;
  }
}

async function openModel(bytes) {
  classifier = await Classifier.read(bytes);
  const { network, width, height, names } = classifier;
  $("about").textContent =
    `${network} for images of ${width}×${height}, ${names?.length ?? "unnamed"} classes`;
  $("image").disabled = $("camera").disabled = false;
}

async function show(source) {
  classifier.draw(source, $("seen"));
  $("seen").hidden = false;
  const start = performance.now();
  const answers = await classifier.classify($("seen"));
  $("time").textContent = `${(performance.now() - start).toFixed(1)} ms`;
  $("answer").replaceChildren(...answers.slice(0, 5).map(rowOf));
}

function rowOf({ name, probability }) {
  const row = document.createElement("tr"), meter = document.createElement("meter");
  meter.value = probability;
  row.insertCell().textContent = name;
  row.insertCell().textContent = `${(100 * probability).toFixed(2)}%`;
  row.insertCell().append(meter);
  return row;
}

async function watch() {
  if (stream) return stop();
  stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  $("camera").textContent = "Stop";
  const video = document.createElement("video");
  video.playsInline = video.muted = true;
  video.srcObject = stream;
  await video.play();
  while (stream) {
    await show(video);
    await new Promise(requestAnimationFrame);
  }
}

function stop() {
  stream.getTracks().forEach((track) => track.stop());
  stream = undefined;
  $("camera").textContent = "Camera";
}

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} cannot be fetched: ${response.statusText}`);
  return response;
}

$("model").onchange = ({ target }) =>
  guarded(async () => openModel(new Uint8Array(await target.files[0].arrayBuffer())));
$("image").onchange = ({ target }) =>
  guarded(async () => show(await createImageBitmap(target.files[0])));
$("camera").onclick = () => guarded(watch);

// model.onnx beside the page is taken at once, and ?image=FILE is classified with it.
const model = await fetch("model.onnx");
if (model.ok)
  guarded(async () => {
    await openModel(new Uint8Array(await model.arrayBuffer()));
    const image = new URLSearchParams(location.search).get("image");
    if (image) await show(await createImageBitmap(await (await fetched(image)).blob()));
  });
