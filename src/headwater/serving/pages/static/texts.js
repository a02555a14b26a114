// Pages whose texts the server wrote: fences become blocks.

import { showAll } from "./text.js";

showAll();
