"use strict";

const find = (id) => document.getElementById(id);
const state = {
  output: null, // classes, columns, videos
  video: null, // facts of the chosen video
  frame: 0, // asked for
  shown: null, // drawn: {facts, picture, ids, size, uncertain}
  hidden: new Set(), // ids of classes that are switched off
  labelsAlone: false, // pictures of this video cannot be read
  chart: null, // Bokeh's document of the timeline
  cursors: [], // its lines
  playing: false,
};

// The last wish wins, not the last answer: each wish takes a turn, and an answer whose turn is over is dropped.
const turns = { video: 0, move: 0, query: 0 };

const videoPath = (...parts) => ["/api/videos", encodeURIComponent(state.video.video), ...parts].join("/");
const framePath = (frame, ...parts) => videoPath("frames", frame, ...parts);

async function fetchOk(path) {
  let response;
  try {
    response = await fetch(path);
  } catch {
    throw new Error("the server does not answer; is gsvnet view still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw Object.assign(new Error(told.error ?? `error ${response.status}`), { wholeVideo: told.whole_video === true });
}
const fetchJson = async (path) => (await fetchOk(path)).json();

function say(text) {
  find("notice").textContent = text;
  find("notice").hidden = !text;
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function clock(seconds) {
  const tenths = Math.round(10 * Math.abs(seconds));
  const minutes = Math.floor(tenths / 600);
  const rest = `${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
  const whole = minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
  return (seconds < 0 ? "-" : "") + whole;
}

const UNCERTAIN_COLOURS = new Uint32Array(new Uint8Array([0, 0, 0, 0, 255, 0, 212, 255]).buffer);
const OUT_OF_SIGHT = -1e9; // seconds
const percent = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

// --- frames: one request at a time; while it runs only the newest wish is kept ---------------------------------------

let wish = null;
let loading = false;

async function show(frame) {
  const { first_frame, last_frame } = state.video;
  state.frame = Math.max(first_frame, Math.min(last_frame, Math.round(frame)));
  find("frame").value = state.frame;
  wish = { video: state.video, frame: state.frame };
  if (loading) return;
  loading = true;
  try {
    while (wish) {
      const next = wish;
      wish = null;
      await loadAndPresent(next);
    }
  } finally {
    loading = false; // whatever happens: no frame would be shown ever again
  }
}

async function loadAndPresent({ video, frame }) {
  try {
    const loaded = await loadFrame(frame);
    if (video === state.video) present(loaded);
  } catch (error) {
    if (video === state.video) blank(frame, error.message);
  }
}

async function loadFrame(frame) {
  const [facts, labels, picture] = await Promise.all([
    fetchJson(framePath(frame)),
    fetchOk(framePath(frame, "labels.png")).then(toBitmap),
    loadPicture(frame),
  ]);
  const uncertain = facts.has_uncertain && find("uncertain").checked ? await loadUncertain(frame) : null;
  return { facts, size: labels, ids: readIds(labels), uncertain, ...picture };
}

const loadUncertain = (frame) => fetchOk(framePath(frame, "uncertain.png")).then(toBitmap).then(readIds);

async function loadPicture(frame) {
  if (state.labelsAlone) return { picture: null, why: state.labelsAlone };
  const video = state.video;
  try {
    return { picture: await fetchOk(framePath(frame, "picture.jpg")).then(toBitmap), why: "" };
  } catch (error) {
    const why = `Labels alone: ${error.message}`;
    if (error.wholeVideo && video === state.video) state.labelsAlone = why;
    return { picture: null, why };
  }
}

async function toBitmap(response) {
  return createImageBitmap(await response.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

function readIds(bitmap) {
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const ids = new Uint8Array(bitmap.width * bitmap.height);
  for (let i = 0; i < ids.length; i++) ids[i] = pixels[4 * i];
  return ids;
}

function present(loaded) {
  state.shown = loaded;
  const said = {
    decode_error: "This frame was lost in decoding; it has neither picture nor labels.",
    damaged: "The video is damaged here: this picture, or one that its labels draw on, may not be what was filmed.",
  };
  say(said[loaded.facts.status] ?? loaded.why);
  draw();
  tellFrame(loaded.facts);
  allowCopies(true);
  const { video, frame_index: index, time_s: time } = loaded.facts.reference;
  for (const cursor of state.cursors) cursor.location = time;
  rememberAddress(`#${encodeURIComponent(video)}/${index}`);
  document.body.dataset.frame = String(index); // drawn; tests wait for it
}

function blank(frame, why) {
  state.shown = null;
  say(why);
  const canvas = find("screen");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  find("where").textContent = `frame ${frame}`;
  find("facts").replaceChildren();
  find("reference").textContent = find("copied").textContent = "";
  tellShares([]);
  tellClassConfidence([]);
  allowCopies(false);
  for (const cursor of state.cursors) cursor.location = OUT_OF_SIGHT;
  document.body.dataset.frame = `${frame} without labels`;
}

function allowCopies(allowed) {
  find("copy-reference").disabled = find("copy-command").disabled = !allowed;
}

let remembering = 0;

function rememberAddress(hash) {
  clearTimeout(remembering); // browsers refuse it where it comes often, as it would in playing
  remembering = setTimeout(() => {
    try {
      history.replaceState(null, "", hash);
    } catch {
      // the address stays that of an earlier frame
    }
  }, 300);
}

function draw() {
  if (!state.shown) return;
  const { picture, ids, size, uncertain } = state.shown;
  const canvas = find("screen");
  const { width, height } = picture ?? size;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.clearRect(0, 0, width, height);
  if (picture) context.drawImage(picture, 0, 0);
  context.globalAlpha = picture ? find("opacity").value / 100 : 1;
  context.imageSmoothingEnabled = false;
  context.drawImage(colourise(ids, classColours(), size), 0, 0, width, height);
  if (!uncertain) return;
  context.globalAlpha = 0.85; // whatever the opacity: what is looked for must be seen
  context.drawImage(colourise(uncertain, UNCERTAIN_COLOURS, size), 0, 0, width, height);
}

function classColours() {
  const colours = new Uint32Array(256); // bytes R, G, B, alpha; 0: nothing is laid over
  const bytes = new Uint8Array(colours.buffer);
  state.output.classes.forEach(({ colour }, id) => {
    if (state.hidden.has(id)) return;
    for (let i = 0; i < 3; i++) bytes[4 * id + i] = parseInt(colour.slice(1 + 2 * i, 3 + 2 * i), 16);
    bytes[4 * id + 3] = 255;
  });
  return colours;
}

function colourise(ids, colours, { width, height }) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < ids.length; i++) pixels[i] = colours[ids[i]];
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function tellFrame(facts) {
  const { reference } = facts;
  find("where").textContent = `${clock(reference.time_s)} · frame ${reference.frame_index}`;
  const distance = facts.keyframe_distance;
  const number = (value) => (value === null ? "none" : value.toFixed(3));
  const interval = facts.keyframe_interval;
  const lines = {
    keyframe: facts.is_keyframe ? "yes" : distance === null ? "no" : `${distance} frame${distance === 1 ? "" : "s"} away`,
    ...(interval === null ? {} : { "keyframe interval": `${interval} here` }),
    ...(facts.drift === null ? {} : { drift: `${number(facts.drift)} in its chunk` }),
    confidence: facts.confidence === null ? "none" : `${number(facts.confidence)}, least 5 % of the picture ${number(facts.confidence_p05)}`,
    labels: `${facts.width}x${facts.height}`,
    status: facts.status,
  };
  find("facts").replaceChildren(...Object.entries(lines).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  find("reference").textContent = `${JSON.stringify(reference)}\n\n${facts.command}`;
  tellShares(state.output.classes.map((_, id) => facts.shares[id] ?? 0));
  tellClassConfidence(facts.class_confidence);
  if (facts.has_uncertain) find("uncertain-row").hidden = false; // and stays, as keyframes have none
}

function tellClassConfidence(sure) {
  const some = sure.length > 0;
  find("class-heads").hidden = !some;
  find("classes").classList.toggle("with-confidence", some);
  state.output.classes.forEach((_, id) => {
    find(`sure-${id}`).hidden = !some;
    find(`sure-${id}`).textContent = sure[id]?.toFixed(2) ?? "";
  });
}

async function switchUncertain() {
  if (state.shown) await show(state.frame); // with it, or without
}

function tellShares(shares) {
  state.output.classes.forEach((_, id) => {
    find(`meter-${id}`).value = shares[id] ?? 0;
    find(`share-${id}`).textContent = id in shares ? percent(shares[id]) : "";
  });
}

// --- videos ----------------------------------------------------------------------------------------------------------

async function openVideo(video, frame) {
  pause();
  const turn = ++turns.video;
  turns.move++;
  find("video").value = video;
  try {
    const facts = await fetchJson(`/api/videos/${encodeURIComponent(video)}`);
    if (turn !== turns.video) return;
    state.video = facts;
    state.labelsAlone = false;
    find("uncertain-row").hidden = !find("uncertain").checked;
    clearTimeline();
    Object.assign(find("frame"), { min: facts.first_frame, max: facts.last_frame });
    await Promise.all([show(frame ?? facts.first_frame), drawTimeline(turn)]);
  } catch (error) {
    if (turn !== turns.video) return;
    say(error.message);
    if (state.video) find("video").value = state.video.video;
  }
}

function goTo(video, frame) {
  if (video !== state.video?.video) return openVideo(video, frame);
  turns.video++; // none that is on its way
  find("video").value = video;
  move(frame);
}

async function drawTimeline(turn) {
  const video = state.video;
  const place = element("div");
  try {
    const item = await fetchJson(videoPath("timeline"));
    if (turn !== turns.video) return;
    find("timeline").replaceChildren(place);
    const [{ model: root }] = (await Bokeh.embed.embed_item(item, place)).roots;
    if (turn === turns.video) keepChart(root, video);
    else forget(root.document);
  } catch (error) {
    if (turn === turns.video) find("timeline").replaceChildren(element("p", error.message, "small trouble"));
  }
}

function keepChart(root, { video }) {
  state.chart = root.document;
  state.cursors = root.select("now");
  for (const figure of root.children) figure.on_event("tap", ({ x }) => goToTime(x));
  const reference = state.shown?.facts.reference;
  if (reference?.video === video) for (const cursor of state.cursors) cursor.location = reference.time_s;
  document.body.dataset.timeline = video;
}

function clearTimeline() {
  if (state.chart) forget(state.chart);
  state.chart = null;
  state.cursors = [];
  find("timeline").replaceChildren();
  delete document.body.dataset.timeline;
}

function forget(chart) {
  chart.clear();
  Bokeh.documents.splice(Bokeh.documents.indexOf(chart), 1); // Bokeh itself keeps every document
}

async function goToTime(seconds) {
  const turn = ++turns.move;
  try {
    const { frame_index: frame } = await fetchJson(videoPath(`at?time_s=${seconds}`));
    if (turn === turns.move) move(frame);
  } catch (error) {
    if (turn === turns.move) say(error.message);
  }
}

// --- playing: in real time, leaving out frames that come too late ----------------------------------------------------

function play() {
  if (!state.video || state.video.frame_s <= 0) return;
  turns.move++;
  const from = state.frame >= state.video.last_frame ? state.video.first_frame : state.frame;
  const start = performance.now();
  state.playing = true;
  find("play").textContent = "Pause";
  find("play").setAttribute("aria-pressed", "true");
  const step = () => {
    if (!state.playing) return;
    const frame = from + Math.floor((performance.now() - start) / 1000 / state.video.frame_s);
    if (!loading) show(frame);
    if (frame >= state.video.last_frame) pause();
    else requestAnimationFrame(step);
  };
  step();
}

function pause() {
  state.playing = false;
  find("play").textContent = "Play";
  find("play").setAttribute("aria-pressed", "false");
}

function move(frame) {
  pause();
  turns.move++;
  show(frame);
}

function onKey(event) {
  const isText = event.target.matches('input[type="text"], select, pre');
  const isOther = event.target.matches("input, button, summary") && event.target.id !== "frame";
  if (!state.video || isText || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === " " && isOther) return;
  if (event.target.id === "opacity") return;
  const far = event.shiftKey ? 10 : 1;
  const moves = {
    ArrowLeft: () => move(state.frame - far),
    ArrowRight: () => move(state.frame + far),
    Home: () => move(state.video.first_frame),
    End: () => move(state.video.last_frame),
    " ": () => (state.playing ? pause() : play()),
  };
  if (!(event.key in moves)) return;
  event.preventDefault();
  moves[event.key]();
}

// --- finding and copying ---------------------------------------------------------------------------------------------

async function findFrames(event) {
  event.preventDefault();
  const turn = ++turns.query;
  const asked = new URLSearchParams({ where: find("where-sql").value });
  if (find("only-this").checked && state.video) asked.set("video", state.video.video);
  find("hits").replaceChildren();
  find("found").className = "small quiet";
  find("found").textContent = "looking …";
  try {
    const { num_frames: num, hits } = await fetchJson(`/api/query?${asked}`);
    if (turn !== turns.query) return;
    find("found").textContent = `${num.toLocaleString("en")} frame${num === 1 ? "" : "s"}` + (num > hits.length ? `; the first ${hits.length}:` : "");
    find("hits").replaceChildren(...hits.map(makeHit));
  } catch (error) {
    if (turn !== turns.query) return;
    find("found").className = "small trouble";
    find("found").textContent = error.message;
  }
}

function makeHit(hit) {
  const button = element("button");
  button.type = "button";
  const sure = hit.confidence === null ? "" : ` · ${hit.confidence.toFixed(2)}`;
  button.append(element("span", `${clock(hit.time_s)} · frame ${hit.frame_index}${sure}`));
  if (state.output.videos.length > 1) button.append(element("span", hit.video, "name"));
  button.title = hit.video;
  button.addEventListener("click", () => {
    for (const other of find("hits").querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
    button.setAttribute("aria-current", "true");
    goTo(hit.video, hit.frame_index);
  });
  const item = element("li");
  item.append(button);
  return item;
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    find("copied").textContent = `${what} copied`;
  } catch {
    getSelection().selectAllChildren(find("reference"));
    find("copied").textContent = "selected below: copy it from there";
  }
}

// --- start -----------------------------------------------------------------------------------------------------------

function makeClass({ name, colour }, id) {
  const label = element("label");
  const box = Object.assign(element("input"), { type: "checkbox", checked: true, id: `class-${id}` });
  const chip = element("span", "", "chip");
  chip.style.background = colour;
  const text = element("span", name);
  const meter = Object.assign(element("meter"), { max: 1, value: 0, id: `meter-${id}` });
  const share = Object.assign(element("span", "", "share"), { id: `share-${id}` });
  box.addEventListener("change", () => {
    if (box.checked) state.hidden.delete(id);
    else state.hidden.add(id);
    text.className = box.checked ? "" : "off";
    draw();
  });
  const sure = Object.assign(element("span", "", "sure"), { id: `sure-${id}`, hidden: true });
  label.append(box, chip, text, meter, share, sure);
  const item = element("li");
  item.append(label);
  return item;
}

function switchAll(on) {
  for (const box of find("classes").querySelectorAll("input")) {
    if (box.checked !== on) box.click();
  }
}

function listen() {
  find("video").addEventListener("change", () => openVideo(find("video").value));
  find("frame").addEventListener("input", () => move(Number(find("frame").value)));
  find("back").addEventListener("click", () => move(state.frame - 1));
  find("forth").addEventListener("click", () => move(state.frame + 1));
  find("play").addEventListener("click", () => (state.playing ? pause() : play()));
  find("uncertain").addEventListener("change", switchUncertain);
  find("opacity").addEventListener("input", draw);
  find("all").addEventListener("click", () => switchAll(true));
  find("none").addEventListener("click", () => switchAll(false));
  find("query").addEventListener("submit", findFrames);
  find("copy-reference").addEventListener("click", () => copy(JSON.stringify(state.shown.facts.reference), "reference"));
  find("copy-command").addEventListener("click", () => copy(state.shown.facts.command, "command"));
  document.addEventListener("keydown", onKey);
}

async function start() {
  state.output = await fetchJson("/api/output");
  const { classes, columns, videos } = state.output;
  find("classes").replaceChildren(...classes.map(makeClass));
  find("columns").textContent = columns.join(", ");
  find("video").replaceChildren(...videos.map((video) => Object.assign(element("option", video), { value: video })));
  find("only-this").parentElement.hidden = videos.length < 2;
  listen();
  if (!videos.length) return say("This output holds no labels yet.");
  const [video, frame] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const isThere = videos.includes(video);
  await openVideo(isThere ? video : videos[0], isThere && /^\d+$/.test(frame) ? Number(frame) : undefined);
}

start().catch((error) => say(error.message));
