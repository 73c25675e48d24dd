// A picture that is replaced without flickering, its description, and what went wrong, for every reader.
function render({ model, el }) {
  el.classList.add("ddpm-picture");
  const sentence = el.appendChild(document.createElement("p"));
  const image = el.appendChild(document.createElement("img"));
  const error = el.appendChild(document.createElement("p"));
  sentence.setAttribute("role", "status"); // announced when it changes, without stealing the focus
  error.setAttribute("role", "alert");

  function update() {
    const old = image.src;
    image.src = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
    if (old) URL.revokeObjectURL(old);
  }
  function describe() {
    image.alt = model.get("alt");
    sentence.textContent = model.get("sentence");
    error.textContent = model.get("error");
    sentence.setAttribute("aria-live", model.get("quiet") ? "off" : "polite");
  }
  function nameSliders() {
    // ipywidgets writes a slider's name beside it, but does not give it to its handle
    if (!el.isConnected) return requestAnimationFrame(nameSliders);
    for (const slider of el.parentElement.querySelectorAll(":scope > .widget-slider, :scope > .widget-inline-hbox")) {
      const name = slider.querySelector(".widget-label")?.textContent;
      slider.querySelector("[role=slider]")?.setAttribute("aria-label", name);
    }
  }
  model.on("change:png", update);
  model.on("change:alt change:sentence change:error change:quiet", describe);
  update();
  describe();
  requestAnimationFrame(nameSliders);
  return () => URL.revokeObjectURL(image.src);
}
export default { render };
