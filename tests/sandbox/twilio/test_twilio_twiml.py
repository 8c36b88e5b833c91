"""The TwiML reader: documents made by the official library, and what is refused."""

from __future__ import annotations

import pytest
from twilio.twiml.voice_response import Connect, Dial, Enqueue, Gather, VoiceResponse

from sandbox.twilio.twiml import Interpreter, TwimlError, check_inline, parse, stream_of, task_of


def connect(attributes: str = 'url="wss://h/media"', inner: str = "", verb: str = "Connect") -> str:
    return f"<Response><{verb}><Stream {attributes}>{inner}</Stream></{verb}></Response>"


def test_documents_of_the_official_library_are_read() -> None:
    document = VoiceResponse()
    document.say("Hello & welcome", voice="alice", loop=2)
    gather = Gather(num_digits=1, action="/keys")
    gather.say("Press one")
    document.append(gather)
    dial = Dial(action="/after", caller_id="+15005550006")
    dial.number("+15005550007", url="/whisper")
    document.append(dial)
    enqueue = Enqueue(workflow_sid="WW1")
    enqueue.task('{"lang": "en"}')
    document.append(enqueue)
    stream = Connect(action="/done")
    stream.stream(url="wss://h/media", name="s").parameter(name="token", value="<&>")
    document.append(stream)
    say, keys, call, queue, media = parse(str(document))
    assert (say.text, say.get("voice"), say.number("loop", 1)) == ("Hello & welcome", "alice", 2)
    assert [noun.text for noun in keys.nouns] == ["Press one"]
    assert call.nouns[0].get("url") == "/whisper"
    assert task_of(queue) == {"lang": "en"}
    assert stream_of(media).parameters == {"token": "<&>"}
    assert stream_of(media).name == "s"


def test_verbs_come_one_by_one_and_the_end_of_the_document_ends_the_call() -> None:
    interpreter = Interpreter()
    interpreter.load("<Response><Say>a</Say><Pause/></Response>")
    assert [str(interpreter.next()) for _ in range(3)] == ["<Say>a", "<Pause>", "None"]
    assert interpreter.executed == ["Say", "Pause"]


def test_another_document_replaces_the_rest_and_the_trace_goes_on() -> None:
    interpreter = Interpreter()
    interpreter.load("<Response><Say>a</Say><Say>never</Say></Response>")
    interpreter.next()
    interpreter.load("<Response><Hangup/></Response>")
    interpreter.next()
    assert interpreter.executed == ["Say", "Hangup"]


def test_an_unknown_verb_is_skipped_with_12200() -> None:
    interpreter = Interpreter()
    interpreter.load("<Response><Sing/><Say>a</Say></Response>")
    verb = interpreter.next()
    assert verb is not None
    assert verb.name == "Say"
    assert [warning.code for warning in interpreter.warnings] == [12200]
    assert interpreter.executed == ["Say"]


def test_an_unknown_noun_is_warned_of() -> None:
    interpreter = Interpreter()
    interpreter.load("<Response><Dial><Fax>1</Fax></Dial></Response>")
    interpreter.next()
    assert [warning.code for warning in interpreter.warnings] == [12200]


@pytest.mark.parametrize(
    "document",
    ["", "hello", "<Response>", "<Resp/>", "<response/>", '<!DOCTYPE r [<!ENTITY a "b">]><Response>&a;</Response>'],
)
def test_what_is_not_twiml_is_12100(document: str) -> None:
    with pytest.raises(TwimlError) as caught:
        parse(document)
    assert caught.value.code == 12100


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (connect('url="ws://h/media"'), 31922),
        (connect('url="https://h/media"'), 31922),
        (connect('url="/media"'), 31923),
        (connect(""), 31923),
        (connect('url="wss://h/media?token=1"'), 31920),
        (connect('url="wss://h/media" track="both_tracks"'), 31941),
        (connect('url="wss://h/media" track="outbound_track"'), 31941),
        (connect('url="wss://h/media" track="all"', verb="Start"), 31941),
        (connect(inner=f'<Parameter name="a" value="{"x" * 499}"/>'), 12200),
        (connect(inner='<Parameter value="x"/>'), 12200),
        ("<Response><Connect/></Response>", 12200),
    ],
)
def test_a_stream_that_cannot_be_opened(document: str, code: int) -> None:
    (verb,) = parse(document)
    with pytest.raises(TwimlError) as caught:
        stream_of(verb)
    assert caught.value.code == code


def test_limits_are_reached_but_not_passed() -> None:
    (verb,) = parse(connect(inner=f'<Parameter name="a" value="{"x" * 498}"/>'))
    assert len(stream_of(verb).parameters["a"]) == 498
    (verb,) = parse(connect('url="wss://h/m" track="both_tracks"', verb="Start"))
    assert stream_of(verb).tracks == ("inbound", "outbound")


def test_inline_twiml_has_4000_characters_at_most() -> None:
    fits = "<Response>" + " " * (4000 - 21) + "</Response>"
    assert len(fits) == 4000
    check_inline(fits)
    with pytest.raises(TwimlError, match="4001 characters"):
        check_inline(fits + " ")


def test_a_task_that_is_not_an_object_is_14220() -> None:
    (verb,) = parse("<Response><Enqueue><Task>[1]</Task></Enqueue></Response>")
    with pytest.raises(TwimlError) as caught:
        task_of(verb)
    assert caught.value.code == 14220


def test_a_number_that_is_none_is_named() -> None:
    (verb,) = parse('<Response><Pause length="long"/></Response>')
    with pytest.raises(TwimlError, match="<Pause length> is 'long'"):
        verb.number("length", 1)
