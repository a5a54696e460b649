// Sends a job with @parse/node-apn, unmodified; one JSON line per push.
'use strict';
const fs = require('fs');
const path = require('path');

const job = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const apn = require(path.join(job.node_modules, '@parse', 'node-apn'));

const options = {
  production: true,
  token: { key: job.token_key, keyId: job.key_id, teamId: job.team_id },
  ca: [fs.readFileSync(job.roots)],
};
if (job.proxy) options.proxy = job.proxy;
const provider = new apn.Provider(options);

async function send(push) {
  const note = new apn.Notification();
  note.topic = job.topic;
  note.pushType = 'alert';
  note.id = push.id;
  note.rawPayload = JSON.parse(push.payload);
  const result = await provider.send(note, push.token);
  const entry = { token: push.token, sent_id: push.id };
  if (result.sent.length === 1) {
    entry.status = 200;
    entry.reason = '';
  } else {
    const failed = result.failed[0];
    if (failed.status) entry.status = Number(failed.status);
    if (failed.response) entry.reason = failed.response.reason || '';
    if (failed.error) entry.error = String(failed.error.message || failed.error);
  }
  process.stdout.write(JSON.stringify(entry) + '\n');
}

async function worker(queue) {
  for (let push = queue.shift(); push; push = queue.shift()) await send(push);
}

(async () => {
  const queue = job.pushes.slice();
  await Promise.all(Array.from({ length: job.concurrency }, () => worker(queue)));
  provider.shutdown();
  setTimeout(() => process.exit(0), 200);
})();
