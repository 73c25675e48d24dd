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
  }
  model.on("change:png", update);
  model.on("change:alt change:sentence change:error", describe);
  update();
  describe();
  return () => URL.revokeObjectURL(image.src);
}
export default { render };
