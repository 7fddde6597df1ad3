/* The page without a service. */
import { start } from "./app.js";
import * as local from "./local.js";

start(local);
