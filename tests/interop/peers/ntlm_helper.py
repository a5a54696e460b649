"""An NTLM verifier behind Squid's helper protocol (squid-2.5-ntlmssp), around pyspnego.

    YR            -> TT CHALLENGE     a new handshake; Squid hands the first message along
    KK MESSAGE    -> AF USER | NA REASON
"""

import base64
import json
import os
import sys


def main():
    """Answers one line after the other; the state is the handshake under way."""
    accounts, ledger = sys.argv[1:3]
    os.environ["NTLM_USER_FILE"] = accounts
    import spnego  # reads NTLM_USER_FILE

    def note(**entry):
        with open(ledger, "a", encoding="utf-8") as sink:
            sink.write(json.dumps(entry) + "\n")

    context = None
    for line in sys.stdin:
        verb, _, rest = line.strip().partition(" ")
        try:
            if verb == "YR":
                context = spnego.server(protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
                first = base64.b64decode(rest) if rest else NEGOTIATE
                challenge = context.step(first)
                answer = "TT " + base64.b64encode(challenge).decode()
                note(leg="negotiate", length=len(first))
            elif verb == "KK":
                context.step(base64.b64decode(rest))
                user = context.client_principal or "unknown"
                answer = f"AF {user}" if context.complete else "NA incomplete"
                note(leg="authenticate", user=user, complete=context.complete)
            else:
                answer = "BH unknown request"
        except Exception as error:  # a wrong password raises; Squid wants one line in any case
            text = " ".join(str(error).split())[:120]
            answer = f"NA {text}"
            note(leg="refused", error=f"{type(error).__name__}: {text}")
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


# The smallest NEGOTIATE message, for a Squid that does not hand the client's along.
NEGOTIATE = b"NTLMSSP\0\1\0\0\0" + (0x00088207).to_bytes(4, "little") + bytes(16)

if __name__ == "__main__":
    main()
