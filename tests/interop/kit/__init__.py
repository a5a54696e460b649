"""The shared kit of the interop suite: machines, peers, senders and ledgers."""
