"""Sends a job with aioapns, unmodified; one JSON line per push.

A job with `burst` is sent in bursts of so many pushes, with `pause` seconds between them; a line
says when each begins and when it has been answered.
"""

import asyncio
import json
import ssl
import sys

from aioapns import APNs, NotificationRequest, PushType


async def main():
    """Sends every push of the job, at most `concurrency` at once."""
    with open(sys.argv[1], encoding="utf-8") as source:
        job = json.load(source)
    with open(job["token_key"], encoding="utf-8") as source:
        key = source.read()
    apns = APNs(
        key=key, key_id=job["key_id"], team_id=job["team_id"], topic=job["topic"],
        ssl_context=ssl.create_default_context(cafile=job["roots"]), max_connections=2)
    gate = asyncio.Semaphore(job["concurrency"])

    async def send(push):
        async with gate:
            request = NotificationRequest(
                device_token=push["token"], message=json.loads(push["payload"]),
                notification_id=push["id"], push_type=PushType.ALERT, priority=10)
            entry = {"token": push["token"], "sent_id": push["id"]}
            try:
                result = await asyncio.wait_for(apns.send_notification(request), job["deadline"])
                entry.update(status=int(result.status), apns_id=result.notification_id,
                             reason=result.description or "")
            except Exception as error:  # every failure is the ledger's matter
                entry["error"] = f"{type(error).__name__}: {error}"
            print(json.dumps(entry), flush=True)

    burst = job.get("burst") or len(job["pushes"])
    for first in range(0, len(job["pushes"]), burst):
        print(f"burst {first // burst} begins", flush=True)
        await asyncio.gather(*(send(push) for push in job["pushes"][first:first + burst]))
        print(f"burst {first // burst} is answered", flush=True)
        await asyncio.sleep(job.get("pause", 0))


asyncio.run(main())
