
// The tabs, and the one that says how the server does, as long as it is open.
{
  const { byId, make } = catdog;
  const INTERVAL_MS = 2000;
  let ended = new AbortController(); // aborted when a tab is chosen

  const look = async (signal) => {
    const view = await viewOf(signal);
    if (signal.aborted) return; // another one looks now, or none
    byId("service-problem").textContent = view.problem ?? "";
    byId("service-problem").hidden = !view.problem;
    byId("facts").replaceChildren(...Object.entries(view.facts).map(
      ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    setTimeout(() => signal.aborted || look(signal), INTERVAL_MS);
  };

  const viewOf = async (signal) => {
    try {
      return await (await catdog.fetched("service", { signal })).json();
    } catch (problem) {
      return { facts: {}, problem: problem.message };
    }
  };

  for (const name of ["images", "service"]) {
    byId(`${name}-tab`).addEventListener("click", () => {
      for (const other of ["images", "service"]) {
        byId(other).hidden = other !== name;
        byId(`${other}-tab`).ariaSelected = other === name;
      }
      ended.abort();
      ended = new AbortController();
      if (name === "service") look(ended.signal);
    });
  }
}
