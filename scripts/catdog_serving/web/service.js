
// The tabs, and the one that says how the server does, as long as it is open.
{
  const { byId, make } = catdog;
  const INTERVAL_MS = 2000;
  let next = 0; // the timer of the next look

  const look = async () => {
    const view = await catdog.fetched("service").then((answer) => answer.json())
      .catch((problem) => ({ facts: {}, problem: problem.message }));
    byId("service-problem").textContent = view.problem ?? "";
    byId("service-problem").hidden = !view.problem;
    byId("facts").replaceChildren(...Object.entries(view.facts).map(
      ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    clearTimeout(next); // of another look, which a quick hand began
    if (!byId("service").hidden) next = setTimeout(look, INTERVAL_MS);
  };

  for (const name of ["images", "service"]) {
    byId(`${name}-tab`).addEventListener("click", () => {
      for (const other of ["images", "service"]) {
        byId(other).hidden = other !== name;
        byId(`${other}-tab`).ariaSelected = other === name;
      }
      clearTimeout(next);
      if (name === "service") look();
    });
  }
}
