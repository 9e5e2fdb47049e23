
// The tabs, and the one that says how the server does, as long as it is open.
{
  const { byId, make } = catdog;
  const INTERVAL_MS = 2000;
  let timer = 0;

  const look = async () => {
    let view;
    try {
      view = await (await fetch("service")).json();
    } catch {
      view = { facts: {}, problem: "The page's own server does not answer. Start: catdog web" };
    }
    byId("service-problem").textContent = view.problem ?? "";
    byId("service-problem").hidden = !view.problem;
    byId("facts").replaceChildren(...Object.entries(view.facts).map(
      ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    if (!byId("service").hidden) timer = setTimeout(look, INTERVAL_MS);
  };

  for (const name of ["images", "service"]) {
    byId(`${name}-tab`).addEventListener("click", () => {
      for (const other of ["images", "service"]) {
        byId(other).hidden = other !== name;
        byId(`${other}-tab`).ariaSelected = other === name;
      }
      clearTimeout(timer);
      if (name === "service") look();
    });
  }
}
