() => {
  // Screen readers watch only what is there before its text comes.
  document.getElementById("cd-message").setAttribute("aria-live", "polite");
  // All of the page is the drop zone: beside it a browser would open the image instead.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const input = document.querySelector("#cd-drop input[type=file]");
    if (!input || event.target.closest("#cd-drop") || !event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
