// What htmx does not do: the theme, the keys, and the number beside the slider. The page works without any of it.
(function () {
  "use strict";
  var root = document.documentElement;
  var kept = null;
  try { kept = localStorage.getItem("tamis-theme"); } catch (refused) { kept = null; }
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  function isTyping(element) {
    return element.closest("input:not([type=range]), select, textarea") !== null;
  }
  document.addEventListener("click", function (event) {
    if (!event.target.closest("[data-theme-toggle]")) return;
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("tamis-theme", root.dataset.theme); } catch (refused) { return; }
  });
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey) {
      if (event.key === "Enter" && event.target.matches("textarea.sql")) event.target.form.requestSubmit();
      return;
    }
    if (event.altKey || isTyping(event.target)) return;
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("search").focus();
    } else if (event.key === "[" || event.key === "]") {
      var link = document.querySelector(event.key === "[" ? "a[rel=prev]" : "a[rel=next]");
      if (link) link.click();
    }
  });
  document.addEventListener("input", function (event) {
    var shown = event.target.dataset.shown && document.getElementById(event.target.dataset.shown);
    if (shown) shown.textContent = Number(event.target.value).toLocaleString("en").replace(/,/g, "\u202f");
  });
  document.addEventListener("change", function (event) {
    if (event.target.matches("select[data-submits]")) event.target.form.requestSubmit();
  });
})();
