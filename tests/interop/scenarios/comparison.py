"""The comparison itself must be able to fail: every kind of wrong story is caught."""

import copy

from kit.lab import Failure, expect
from kit.ledger import Job, compare
from kit.pki import World
from kit.registry import scenario

STATUS = {"0400": 400, "0410": 410, "0413": 413}


def _stories(job):
    answers, entries = [], []
    for push in job.pushes:
        status = STATUS.get(push["token"][:4], 200)
        body = "" if status == 200 else '{"reason": "BadDeviceToken"}'
        entries.append({
            "event": "request", "token": push["token"], "connection": 1, "flags": [], "fields": [],
            "answer": {"status": status, "apns_id": push["id"], "body": body, "unique_id": None}})
        answers.append({"token": push["token"], "status": status, "apns_id": push["id"],
                        "body": body})
    return answers, entries


WRONG = {
    "processed twice": lambda answers, entries: entries.append(entries[0]),
    "never answered": lambda answers, entries: answers.pop(),
    "answered twice": lambda answers, entries: answers.append(answers[0]),
    "answered but never processed": lambda answers, entries: entries.pop(),
    "another status": lambda answers, entries: answers[0].update(status=503),
    "another apns-id": lambda answers, entries: answers[0].update(apns_id="other"),
    "another body": lambda answers, entries: answers[9].update(body="{}"),
    "a forbidden field": lambda answers, entries: entries[0]["flags"].append("forbidden via"),
    "a changed field": lambda answers, entries: answers[0].update(sent_fields={"apns-topic": "x"}),
    "too many connections": lambda answers, entries: entries.extend(
        {"event": "connection", "connection": number} for number in range(3)),
    "not HTTP/2": lambda answers, entries: entries.append({"event": "not-h2", "first": "POST"}),
    "a stranger's push": lambda answers, entries: entries.append({**entries[0], "token": "ffff"}),
}


@scenario("kit", relay=False)
def kit_comparison(lab):
    """A ledger with one thing wrong is never taken for a good one."""
    job = Job(World(lab), count=10)
    answers, entries = _stories(job)
    compare(job, answers, entries)
    for what, spoil in WRONG.items():
        spoiled = copy.deepcopy(answers), copy.deepcopy(entries)
        spoil(*spoiled)
        try:
            compare(job, *spoiled)
        except Failure:
            continue
        expect(False, f"not noticed: {what}")
