// The image of the item: it is chosen, dropped, pasted or photographed, then shown, and can be removed.
import { byId, element } from "./element.js";
import { bytes } from "./figure.js";

let picture = null;
let address = null;

export const chosen = () => picture;

export function choose(file) {
  if (address !== null) URL.revokeObjectURL(address);
  picture = file;
  address = file === null ? null : URL.createObjectURL(file);
  byId("preview").hidden = byId("remove").hidden = file === null;
  byId("preview").replaceChildren(...(file === null ? [] : shown(file)));
  byId("picture-hint").hidden = file !== null;
  byId("drop").classList.toggle("filled", file !== null);
}

// Calls `changed` after each change by the user.
export function listen(changed) {
  const take = (files) => {
    if (files?.length) {
      choose(files[0]);
      changed();
    }
  };
  for (const id of ["picture", "photograph"]) {
    byId(id).addEventListener("change", (event) => {
      take([...event.target.files]);
      event.target.value = ""; // the same file may be chosen again
    });
  }
  byId("remove").addEventListener("click", () => {
    choose(null);
    changed();
    byId("picture").focus();
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
    if (files.length) event.preventDefault();
    take(files);
  });
  const drop = byId("drop");
  const holdsFiles = (event) => event.dataTransfer.types.includes("Files"); // a text belongs to the field it is dropped on
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault(); // else the browser leaves this page for the file
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    take([...event.dataTransfer.files]);
  });
}

function shown(file) {
  const image = element("img", { src: address, alt: "The chosen image", error: () => image.remove() });
  return [image, element("p", { class: "hint" }, `${file.name}, ${bytes(file.size)}`)];
}
