"""Tools of the front desk: answer from the business's own answers, take a message, fetch a person, end the call."""

from __future__ import annotations

from bot.errors import NotOpen, NotUnderstood
from bot.tools.arguments import NameSaid, PhoneSaid, Text, say_phone
from bot.tools.registry import Answer, Work, tool
from desk.business import Faq


@tool(outcomes=("found", "nothing"))
async def answer_question(work: Work, question: Text) -> Answer:
    """Look up the business's own answer to a question: prices, parking, payment, preparation, policies.

    Args:
        question: The caller's question, in their words.
    """
    found: list[Faq] = await work.at_desk(work.desk.search_faq, question)
    if not found:
        hint = "Say so honestly, do not guess, and offer to take a message."
        return Answer("There is no answer to this on file.", {"hint": hint}, "nothing")
    others = [{"question": entry.question, "answer": entry.answer} for entry in found]
    hint = "Use the entry that answers the question; if none does, say so and offer to take a message."
    return Answer(found[0].answer, {"answers": others, "hint": hint}, "found")


@tool(writes=True)
async def take_message(
    work: Work, text: Text, name: NameSaid, phone: PhoneSaid | None = None, urgent: bool = False
) -> Answer:
    """Take a message for the staff, who will call back. Read it back to the caller first.

    Args:
        text: The message, in full sentences.
        name: The caller's name.
        phone: Number to call back, with area code; leave out for the number the caller is calling from.
        urgent: true only if the caller says that it cannot wait.
    """
    number = phone or work.here.caller_number
    if number is None:
        raise NotUnderstood("The caller's number is withheld.", "Ask for a number to call back and pass it as phone.")
    await work.at_desk(work.desk.take_message, caller_phone=number, name=name, text=text, urgent=urgent, key=work.key)
    return Answer(f"The message is passed on; the staff will call back on {say_phone(number)}.", {"urgent": urgent})


@tool()
async def transfer_to_human(work: Work, reason: Text) -> Answer:
    """Put the caller through to a member of staff. When the caller asks for a person, or you cannot help at all.

    Args:
        reason: Who calls and what they want, in one sentence, for the person who picks up.
    """
    line = work.staff_line
    if line is None or not line.is_staffed(work.business, work.here.now, work.call.to_number):
        raise NotOpen("Nobody can come to the phone right now.", "Say so and offer to take a message.")
    hint = "Say nothing more: the caller is told, and hears it ring."
    return Answer("The caller is being put through.", {"hint": hint}, hand_over=reason)


@tool()
async def end_call(work: Work) -> Answer:
    """Hang up. Only when the caller has nothing more, or asked to end the call. Say goodbye in the same breath."""
    hint = "Say one short goodbye now if you have not yet; the line closes when it has been heard."
    return Answer("The call is about to end.", {"hint": hint}, hang_up=True)
