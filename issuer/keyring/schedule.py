"""When each standby key is activated, one rotation period after the key before it.

The earliest instant at which a key may sign is `Key.may_sign_from`; which key a node signs with is decided in `view`.
`ring` stores the result in its keys; how many keys are published at once is bounded in `key_count`.
"""

from collections.abc import Iterable
from datetime import datetime

from issuer.keyring.key import Key
from issuer.keyring.policy import Policy


def activation_times(
    current: Key, standbys: Iterable[Key], policy: Policy, now: datetime
) -> dict[str, datetime | None]:
    """Return the activation time of each standby by kid; None where an operator decides.

    For each key, in the order of activation:

        may_sign_from   published_at + lead
        seen_by_all     now + margin
        activates_at    max(activates_at of the key before it + rotation period, may_sign_from, seen_by_all)

    A time that is not after `seen_by_all` is final, as a node may act on it before it sees a change.
    """
    times: dict[str, datetime | None] = {}
    before = current.activates_at
    for key in standbys:
        seen_by_all = now + key.margin
        is_final = key.activates_at is not None and key.activates_at <= seen_by_all
        if is_final:
            before = key.activates_at
        elif before and policy.rotation_period:
            before = max(before + policy.rotation_period, key.may_sign_from, seen_by_all)
        else:
            before = None
        times[key.kid] = before
    return times
