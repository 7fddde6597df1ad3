/* The page of the service. */
import { start } from "./app.js";
import * as service from "./service.js";

start(service);
