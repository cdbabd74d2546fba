"use strict";
// Swaps each still picture for a living chart when it comes near the screen, and lets the legend and the two lists pick.
(() => {
  document.documentElement.classList.add("js");
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const views = new Set();
  let held = [];

  const show = (names) => {
    for (const view of views) view.signal("picked", names).runAsync();
    for (const chip of document.querySelectorAll(".chip")) {
      chip.classList.toggle("dim", names.length > 0 && !names.includes(chip.dataset.recogniser));
    }
  };

  const embed = async (figure) => {
    const plot = figure.querySelector(".plot");
    const living = document.createElement("div");
    living.className = "living";
    plot.after(living);
    try {
      const { view } = await vegaEmbed(living, specs[figure.dataset.chart], {
        mode: "vega-lite",
        renderer: "svg",
        actions: false,
        ast: true, // no eval: the page forbids it
        defaultStyle: false,
        tooltip: { disableDefaultStyle: true },
      });
      views.add(view);
      view.addEventListener("pointerover", (event, item) => {
        if (item && item.datum && item.datum.recogniser) show([item.datum.recogniser]);
      });
      view.addEventListener("pointerout", () => show(held));
      if (held.length) view.signal("picked", held).runAsync();
      plot.hidden = true;
    } catch (error) {
      living.remove(); // the still picture stays
      throw error;
    }
  };

  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) {
          near.unobserve(target);
          embed(target);
        }
      }
    },
    { rootMargin: "600px" },
  );
  document.querySelectorAll("figure.chart").forEach((figure) => near.observe(figure));

  for (const chip of document.querySelectorAll(".chip")) {
    const name = chip.dataset.recogniser;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.dataset.recogniser = name;
    button.title = name;
    button.setAttribute("aria-pressed", "false");
    button.append(...chip.childNodes);
    button.addEventListener("click", () => {
      held = held.includes(name) ? held.filter((other) => other !== name) : [...held, name];
      button.setAttribute("aria-pressed", String(held.includes(name)));
      show(held);
    });
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show([name]));
    button.addEventListener("pointerleave", () => show(held));
    chip.replaceWith(button);
  }

  const [recogniser, split] = ["pick-recogniser", "pick-split"].map((id) => document.getElementById(id));
  const panels = [...document.querySelectorAll(".panel")];
  const pick = () => {
    let found = false;
    for (const panel of panels) {
      const wanted = panel.dataset.recogniser === recogniser.value && panel.dataset.split === split.value;
      panel.hidden = !wanted;
      panel.open = wanted;
      found ||= wanted;
    }
    document.getElementById("pick-none").hidden = found;
  };
  recogniser.selectedIndex = recogniser.options.length - 1;
  for (const list of [recogniser, split]) list.addEventListener("change", pick);
  document.querySelector(".picker").hidden = false;
  pick();

  // On paper everything that is folded is shown.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open]):not([hidden])")];
    folded.forEach((details) => (details.open = true));
  });
  addEventListener("afterprint", () => folded.forEach((details) => (details.open = false)));
})();
