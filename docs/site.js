// The copy button of a terminal's block copies its commands, without prompts and output.
"use strict";
addEventListener("DOMContentLoaded", () => {
  for (const block of document.querySelectorAll(".language-console, .console")) {
    const commands = [];
    let goesOn = false;
    for (const line of block.querySelector("code").textContent.split("\n")) {
      const isCommand = line.startsWith("$ ");
      if (isCommand || goesOn) commands.push(isCommand ? line.slice(2) : line.replace(/^> /, ""));
      goesOn = (isCommand || goesOn) && line.endsWith("\\");
    }
    const button = block.querySelector("[data-clipboard-target]");
    if (button && commands.length) button.setAttribute("data-clipboard-text", commands.join("\n"));
  }
});
