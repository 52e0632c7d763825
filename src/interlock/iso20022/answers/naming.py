"""What an answer is called: MsgId, in a camt.029 Assgnmt/Id, and BizMsgIdr. Pure."""

from datetime import UTC, datetime

from interlock.iso20022.answers.pieces import ID_MAX, required_text
from interlock.iso20022.forms import SERIAL
from interlock.iso20022.original import Original


def message_id(answer_id: str, form: str, original: Original, now: datetime) -> str:
    """Our own name of an answer, or what the scheme makes of it (`Form.message_id`).

    The form says which connection sends the answer. Where the request does not say that, in the header's To, the name
    is our own: a scheme that insists would not have let that request through.
    """
    name = required_text(answer_id)
    header = original.header
    if not form or header is None or header.receiver is None:
        return name
    receiver, serial = header.receiver.clearing_member, "".join(filter(str.isalnum, name))
    if not receiver or not receiver.isalnum() or not serial:
        return name
    start = form.removesuffix(SERIAL).format(date=f"{now.astimezone(UTC):%Y%m%d}", own=receiver)
    room = ID_MAX - len(start)
    # Our names begin with the time, which the date says already, and end with what makes them unique.
    return start + serial[-room:] if room >= _SERIAL_MIN else name


#: Fewer signs of our own name could be those of another one.
_SERIAL_MIN = 12
