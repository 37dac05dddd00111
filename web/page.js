// What makes the pages live. Without it they work as plain forms and links.

import { prepare, snippets } from "./form.js";
import { follow } from "./live.js";

const form = document.getElementById("form");
if (form) prepare(form);
snippets();
const panel = document.getElementById("panel");
if (panel?.dataset.part) follow(panel);
