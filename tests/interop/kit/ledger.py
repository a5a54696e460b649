"""Jobs (what is to be sent), ledgers (what came of it), and the comparison of both ends."""

import collections
import json
import os
import secrets
import uuid

from .lab import Failure, expect

COUNT = int(os.environ.get("PUSHRELAY_INTEROP_COUNT", "50"))
# What the comparisons of the running scenario counted; the suite prints it beside the name.
FIGURES = []
TOPIC, TEAM, KEY_ID = "com.example.chat", "TEAM012345", "KEY0123456"


class Job:
    """Pushes with unique device tokens; every tenth is one that the origin refuses."""

    def __init__(self, world, count=None, roots=None, refused=True):
        self.count = count or COUNT
        self.pushes = []
        for number in range(self.count):
            head = "00ff"
            if refused and number % 10 == 9:
                head = ("0400", "0410", "0413")[number // 10 % 3]
            self.pushes.append({
                "token": head + secrets.token_hex(30), "id": str(uuid.uuid4()),
                "payload": json.dumps({"aps": {"alert": f"push {number} \u00e4\u20ac"}})})
        self.fields = {
            "token_key": str(world.token_key), "key_id": KEY_ID, "team_id": TEAM, "topic": TOPIC,
            "roots": str(roots or world.root), "concurrency": 20, "deadline": 20,
            "pushes": self.pushes}

    def write(self, machine, **more):
        """The job as a file for a sender on this machine."""
        path = machine.directory / f"job-{uuid.uuid4().hex[:8]}.json"
        path.write_text(json.dumps({**self.fields, **more}))
        return path


def compare(job, answers, entries, connections=2, strict=True, answered=None,
            fields=True):
    """Both ledgers tell the same story; the story is the one that is promised.

    `answers` is the sender's ledger, `entries` the origin's. Every push was answered once, exactly
    as the origin answered it; the origin saw each push once, in clean HTTP/2, on few connections.
    """
    problems = []
    requests = [entry for entry in entries if entry.get("event") == "request"]
    by_token, seen = {}, {}
    for entry in requests:
        seen.setdefault(entry["token"], []).append(entry)
    for answer in answers:
        by_token.setdefault(answer["token"], []).append(answer)
    for push in job.pushes:
        _compare_push(push, by_token.get(push["token"], []), seen.get(push["token"], []), problems,
                      fields)
    known = {push["token"] for push in job.pushes}
    strangers = [entry for entry in requests if entry["token"] not in known]
    if strangers:
        problems.append(f"the origin saw {len(strangers)} requests nobody sent")
    for entry in entries:
        if entry.get("event") in ("not-h2", "protocol-error"):
            problems.append(f"the origin saw {entry}")
    if strict:
        marks = sorted({flag for entry in requests for flag in entry["flags"]})
        if marks:
            problems.append(f"the origin frowned at {marks}")
        used = {entry["connection"] for entry in requests}
        opened = [entry for entry in entries if entry.get("event") == "connection"]
        if len(opened) > connections:
            problems.append(f"{len(opened)} upstream connections ({len(used)} used), "
                            f"at most {connections} are allowed")
    if answered is not None and len(answers) != answered:
        problems.append(f"{len(answers)} answers, expected {answered}")
    if problems:
        more = f" (and {len(problems) - 6} more)" if len(problems) > 6 else ""
        raise Failure("; ".join(problems[:6]) + more)
    FIGURES.append(_figures(answers, entries))


def _figures(answers, entries):
    kinds = collections.Counter(answer["status"] for answer in answers)
    kinds = ", ".join(f"{count} x {status}" for status, count in sorted(kinds.items()))
    opened = sum(entry.get("event") == "connection" for entry in entries)
    text = f"{len(answers)} answered exactly and seen once ({kinds})"
    # pushy's server writes no connections down.
    return f"{text}, upstream connections: {opened}" if opened else text


def _compare_push(push, answers, seen, problems, fields):
    name = push["token"][:8]
    if len(answers) != 1:
        problems.append(f"{name}: {len(answers)} answers")
        return
    answer = answers[0]
    if answer.get("error") or "status" not in answer:
        problems.append(f"{name}: {answer.get('error', 'no status')} "
                        f"(the origin saw it {len(seen)} times)")
        return
    if len(seen) != 1:
        problems.append(f"{name}: the origin saw it {len(seen)} times, "
                        f"the sender got {answer['status']} {answer.get('body', '')[:120]}")
        return
    theirs = seen[0]["answer"]
    if answer["status"] != theirs["status"]:
        problems.append(f"{name}: status {answer['status']}, the origin gave {theirs['status']}")
    if "apns_id" in answer and answer["apns_id"].lower() != theirs["apns_id"].lower():
        problems.append(f"{name}: apns-id {answer['apns_id']}, not {theirs['apns_id']}")
    if answer.get("unique_id") and answer["unique_id"] != theirs["unique_id"]:
        problems.append(f"{name}: another apns-unique-id")
    if answer.get("body") is not None and answer["body"] != theirs["body"]:
        problems.append(f"{name}: body {answer['body']!r}, the origin gave {theirs['body']!r}")
    if answer.get("reason") is not None:
        reason = json.loads(theirs["body"])["reason"] if theirs["body"] else ""
        if answer["reason"] != reason:
            problems.append(f"{name}: reason {answer['reason']!r}, the origin gave {reason!r}")
    for field, value in (answer.get("sent_fields") or {} if fields else {}).items():
        values = [theirs_value for name_, theirs_value in seen[0]["fields"] if name_ == field]
        if values != [value]:
            problems.append(f"{name}: field {field} arrived as {values}")


def refused_by_relay(answers, status, reason=None, hop=None):
    """Every answer is the relay's own: this status, this reason, a Proxy-Status with the hop."""
    for answer in answers:
        expect(answer.get("status") == status,
               f"expected {status}, got {answer.get('status')} {answer.get('error', '')} "
               f"{answer.get('body', '')[:200]}")
        if reason:
            expect(reason in (answer.get("body") or ""), f"body {answer.get('body')!r}")
        if hop:
            text = (answer.get("headers") or {}).get("proxy-status", "")
            expect(hop in text, f"Proxy-Status {text!r} does not name {hop}")


def compare_after_faults(job, answers, entries, unknown):
    """After a fault: every push has one outcome, none was processed twice, none vanished.

    At most `unknown` pushes may be told 409, those that were under way when the fault struck.
    """
    seen = {}
    for entry in entries:
        if entry.get("event") == "request":
            seen[entry["token"]] = seen.get(entry["token"], 0) + 1
    twice = [token for token, times in seen.items() if times > 1]
    expect(not twice, f"{len(twice)} pushes reached the origin twice")
    expect(len(answers) == len(job.pushes), f"{len(answers)} answers to {len(job.pushes)} pushes")
    wanted = {push["token"]: {"0400": 400, "0410": 410, "0413": 413}.get(push["token"][:4], 200)
              for push in job.pushes}
    lost, doubtful = [], []
    for answer in answers:
        status = answer.get("status")
        if status == 409 and "RelayOutcomeUnknown" in (answer.get("body") or answer["reason"]):
            doubtful.append(answer)
        elif status != wanted[answer["token"]]:
            lost.append(answer)
        elif seen.get(answer["token"]) != 1:
            lost.append(answer)
    expect(not lost, f"{len(lost)} pushes lost, the first: {lost[:1]}")
    expect(len(doubtful) <= unknown, f"{len(doubtful)} unknown, at most {unknown} were under way")
    FIGURES.append(f"{len(answers)} answered, {len(doubtful)} of them as unknown, none twice")
