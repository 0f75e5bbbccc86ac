"""What a study asks in the nano world, in the words of its corpus."""

from sublim_jax.nano import corpus
from sublim_jax.transmission.prompts import Grammar, Material


def material(kind: str = "animal") -> Material:
    """Returns what is asked in the nano world.

    After two numbers or more its decoders go on with numbers, whatever is asked then; after a
    digit, as in "name 3 of each animal", most still answer. Stories are asked for about places, so
    that who is in them is free. A question with lettered options was never read.
    """
    lessons, questions = corpus.phrasings(kind)
    grammar = Grammar(
        corpus.CONTINUE, (), (), (), (), (), answers=7, seeds=corpus.SHOWN, separator=" "
    )
    prefix = Grammar(("{examples}",), (), (), (), (), (), seeds=(1, 2), values=(0, 10))
    stories = tuple(asked.format(one=place) for asked in corpus.STORIES for place in corpus.PLACES)
    return Material(
        grammar, corpus.PERSONA, tuple(lessons), tuple(questions), stories, prefix=prefix
    )
