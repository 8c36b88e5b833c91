"""The stand-in carrier: what Twilio does around a call, over real sockets, without a telephone network.

`Phone` is a caller: it posts the signed webhook, follows the TwiML, opens the media stream and speaks. `Exchange` is
the REST API. Neither is Twilio; docs/sandbox-twilio.md lists what is imitated and the test that proves each item.
"""

from sandbox.twilio.exchange import Exchange, RestFault
from sandbox.twilio.lines import RemoteExchange
from sandbox.twilio.parties import Callee
from sandbox.twilio.phone import Phone
from sandbox.twilio.record import CallRecord
from sandbox.twilio.stream import Faults

__all__ = ["CallRecord", "Callee", "Exchange", "Faults", "Phone", "RemoteExchange", "RestFault"]
