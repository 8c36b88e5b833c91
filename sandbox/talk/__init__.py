"""The conversation of `sandbox.schema_mind`, step by step. No I/O, no clock, no model.

listening      what an utterance says: values, yes and no, questions, goodbyes
abilities      what the declared functions are for, and what each is to the others
goals          what the caller wants done, what is known for it, what is missing
planning       what comes next: look up, ask, have it confirmed, do it
outcomes       what a function's result says and offers
consequences   what that changes
phrasing       the sentences
dialogue       what to make of the caller's words
"""
