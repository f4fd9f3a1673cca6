// Runs the cases of tests/soak/cases.json (stdin) through the JavaScript follower; prints what each came to.
import { Follower } from "./soak_follower.mjs";

let text = "";
for await (const chunk of process.stdin) text += chunk;
const outcomes = JSON.parse(text).map(({ channels, steps }) => {
  const follower = new Follower(channels);
  const asked = [];
  for (const step of steps) {
    if ("positions" in step) follower.subscribed(step.positions, step.errors);
    else if ("at" in step) asked.push(follower.channels.get(step.at).history.at(step.seq));
    else if ("lastSeq" in step) asked.push(follower.lastSeq());
    else follower.take(step);
  }
  return { failures: follower.failures.length, asked };
});
process.stdout.write(JSON.stringify(outcomes));
