// What our pages gain by a script: the slider says where it is, names are filtered while one types, and the list of
// drives stays up to date. Everything is there without it, too.
"use strict";

const sizeText = (size) => {
  if (size < 1000) return `${Math.round(size)} B`;
  for (const unit of ["KiB", "MiB", "GiB", "TiB", "PiB"]) {
    size /= 1024;
    if (size < 999.5 || unit === "PiB") return `${size.toFixed(size < 99.95 ? 1 : 0)} ${unit}`;
  }
};

for (const slider of document.querySelectorAll("form.versions input[type=range]")) {
  const output = slider.form.querySelector("output");
  slider.addEventListener("input", () => { output.textContent = `${slider.value} of ${output.dataset.newest}`; });
  slider.addEventListener("change", () => slider.form.requestSubmit());
}

for (const field of document.querySelectorAll("[data-filters]")) {
  const rows = document.querySelectorAll(`#${field.dataset.filters} tbody tr[data-name]`);
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of rows) row.hidden = !row.dataset.name.includes(wanted);
  });
}

const drives = document.querySelector("[data-live]");
if (drives) {
  const kept = 120;
  const rates = { down: [], up: [] };
  const draw = (name) => {
    const values = rates[name];
    const most = Math.max(1, ...values);
    const points = values.map((value, at) => `${kept - values.length + at} ${29 - (28 * value) / most}`);
    document.querySelector(`[data-chart=${name}] path`).setAttribute("d", points.length ? `M ${points.join(" L ")}` : "");
    document.querySelector(`[data-rate=${name}]`).textContent = `${sizeText(values.at(-1))}/s`;
  };
  const cell = (text, className) => {
    const made = document.createElement("td");
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const show = (status) => {
    for (const drive of status.listed) {
      const row = drives.querySelector(`tr[data-key="${drive.key}"]`);
      if (!row) { location.reload(); return; }
      row.querySelector("[data-field=version]").textContent = drive.version || "?";
      for (const field of ["content_bytes", "local_bytes"])
        row.querySelector(`[data-field=${field}]`).textContent = sizeText(drive[field]);
    }
    const sum = (field) => status.peers.reduce((total, peer) => total + peer[field], 0);
    for (const [name, field] of [["down", "download_rate"], ["up", "upload_rate"]]) {
      rates[name].push(sum(field));
      rates[name].splice(0, rates[name].length - kept);
      draw(name);
    }
    document.querySelector("[data-charts]").hidden = false;
    const rows = status.peers.map((peer) => {
      const row = document.createElement("tr");
      const trip = peer.round_trip_seconds === null ? "" : `${(peer.round_trip_seconds * 1000).toFixed(0)} ms`;
      row.append(cell(peer.name), cell(sizeText(peer.downloaded_bytes), "size"),
        cell(sizeText(peer.uploaded_bytes), "size"), cell(trip, "size"));
      return row;
    });
    if (rows.length) document.querySelector("[data-peers]").replaceChildren(...rows);
  };
  const ask = async () => {
    try {
      const answer = await fetch(drives.dataset.live);
      if (answer.ok) show(await answer.json());
    } finally {
      setTimeout(ask, document.hidden ? 10000 : 1500);
    }
  };
  ask();
}
