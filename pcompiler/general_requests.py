"""What anybody may ask an assistant, whatever its prompt says: requests of many kinds, seeded.

A prompt that tells how to answer, and not what about, is asked anything. The kinds are those that
users were found to send (arXiv 2203.02155, table 1: generation, open questions, brainstorming,
chat, rewriting, summaries, classification, extraction), and sums and programs. No model: a small
one that is asked for requests strays into text and code that nobody would send.
"""

from __future__ import annotations

import math
import random
from string import Formatter

# Each form has its turn before any has another; each {slot} is filled by chance from _WORDS.
_FORMS = (
    # generation
    "Write a {genre} about {topic}.",
    "Write a {genre} about {topic} in the style of a {job}.",
    "Draft an email to {reader} about {matter}.",
    "Continue this story: {opening}",
    # open questions
    "Explain {topic} to {listener}.",
    "What are the advantages and disadvantages of {topic}?",
    "What is the history of {topic}?",
    "Compare {topic} and {topic2}.",
    "Why do people care about {topic}? Give an example.",
    "Who was {figure}, and why is this person remembered?",
    "What happens when {event}? Explain the science behind it.",
    "What is the difference between {pair}?",
    "Is it true that {topic} and {topic2} are related? Explain.",
    # brainstorming
    "Give me {few} ideas for {occasion}.",
    "List {few} interesting facts about {topic}.",
    "How does one get started with {topic}?",
    "Plan a lesson about {topic} for {listener}.",
    "Recommend {few} books for somebody who likes {topic}.",
    # chat
    "{greeting} {remark}",
    "{greeting} I have a question about {topic}. Can you help me?",
    "Pretend to be a {job} and tell me about {topic}.",
    "You are a {job}. What do you think about {topic}?",
    "Imagine you meet a {job} who knows all about {topic}. What would you ask?",
    # rewriting
    "Correct the grammar of this sentence: {sentence}",
    "Rewrite this more formally: {sentence}",
    "Translate into {tongue}: {sentence}",
    # summaries, classification, extraction
    "Summarize what you know about {topic} in one paragraph.",
    'Is this review positive, negative or neutral? "{review}"',
    'List the names and numbers in this text as JSON: "{name} bought {n} {things} for ${m}, and '
    '{name2} sold {k} {things2}."',
    # sums
    "{name} has {m} {things} and gives away {n}. Then {name2} brings {k} more. How many {things} "
    "are there now?",
    "What is {m} {operation} {n}?",
    "A train travels {m} km in {n} hours. What is its average speed?",
    "Solve for x: {n}x + {k} = {m}.",
    "A shirt costs ${m} and is reduced by {k}%. What is the new price?",
    "What is the probability of drawing {card} from a deck of cards?",
    "{name} is taller than {name2}, and {name3} is shorter than both. Who is the shortest?",
    # programs
    "Write a function in {language} that {task}.",
    "Write {language} code that {task}, and explain how it works.",
    "How would you test a {language} program that {task}?",
)
_WORDS = {
    "topic": "bicycles|honey bees|black holes|the French Revolution|sourdough bread|solar panels|"
    "volcanoes|the stock market|coral reefs|chess|algae|ancient Egypt|electric cars|libraries|"
    "sleep|coffee|vaccines|jazz|glaciers|the printing press|inflation|gardening|whales|magnets|"
    "democracy|long-distance running|film cameras|the water cycle|rainforests|bridges|dreams|"
    "recycling|satellites|antibiotics|tea|the Silk Road|earthquakes|opera|mushrooms|railways|"
    "penguins|perfume|kites|the moon|steel|owls|taxes|wind turbines|sign language|ceramics|"
    "the human heart|umbrellas|salt|robots|poetry|the migration of birds|cheese|microscopes|"
    "lighthouses|the internet",
    "genre": "short story|poem|haiku|dialogue|speech|blog post|song|letter|joke|limerick|"
    "product description|newspaper headline|diary entry|riddle",
    "job": "pirate|detective|science teacher|museum guide|chef|lawyer|pilot|gardener|librarian|"
    "sports commentator|historian|nurse|travel agent|software engineer|medieval knight",
    "reader": "my boss|a customer|a colleague|my landlord|a teacher|an old friend",
    "matter": "a day off|a late delivery|a broken heater|the next meeting|a missing invoice|"
    "a change of plans",
    "opening": "It was raining when the door opened.|Nobody had seen the letter.|The last train "
    "had already left.|On the top shelf stood a small green box.",
    "listener": "a child|a beginner|an expert|my grandmother|a student|a busy manager|a friend",
    "figure": "Marie Curie|Isaac Newton|Cleopatra|Mozart|Frida Kahlo|Gandhi|Ada Lovelace|"
    "Charles Darwin|Shakespeare|Napoleon",
    "event": "water freezes|iron rusts|salt is put on ice|a ball is dropped from a tower|"
    "sugar is heated|light passes through glass|a magnet is cut in half|a plant gets no light",
    "pair": "a virus and a bacterium|weather and climate|a list and a tuple in Python|"
    "speed and velocity|a crocodile and an alligator|debit and credit|a simile and a metaphor|"
    "mass and weight",
    "few": "three|four|five|ten",
    "occasion": "a birthday party|a school project|a weekend trip|a healthy dinner|a team event|"
    "a science fair|a small business",
    "greeting": "Hello!|Hi!|Good morning!|Hey,",
    "remark": "How are you?|What can you do?|Can you help me with something?|I am bored.|"
    "I am feeling stressed today.|Who are you?|What is new?",
    "sentence": "the meeting has been moved to next tuesday because of the weather.|"
    "he go to school yesterday and forget him books.|we are sorry that the order is late.|"
    "their is too many people in the room.|i has been waiting for you since two hours.|"
    "the cat sat on the mat and looked out of the window.|"
    "our company is growing fast and needs new people.|she dont like neither coffee or tea.|"
    "the results were good but could of been better.",
    "tongue": "French|Spanish|German|Italian",
    "review": "I loved every minute of it.|It broke after two days.|It does what it says.|"
    "Never again!|Not bad for the price.",
    "name": "Anna|Omar|Lucy|Chen|Maria|Peter|Aisha|Tom|Elena|Raj|Sofia|Ben",
    "things": "apples|pencils|stamps|marbles|tickets|books|coins|shells|cards|eggs",
    "operation": "plus|minus|times|divided by",
    "card": "an ace|a red card|a king or a queen|a spade",
    "language": "Python|JavaScript|Java|C++|Go|SQL",
    "task": "reverses a string|checks whether a word is a palindrome|merges two dictionaries|"
    "computes the factorial of a number|counts the vowels in a text|finds the largest number|"
    "sorts a list of tuples by the second item|converts Celsius to Fahrenheit|"
    "removes blank lines from a file|validates an email address|flattens a nested list|"
    "computes the greatest common divisor|finds the longest word in a sentence|"
    "rotates a list by k places|parses a CSV file|computes the average of a column|"
    "checks whether brackets are balanced|generates a random password|"
    "counts how often each letter occurs|prints a multiplication table",
    "n": "|".join(map(str, range(2, 10))),
    "k": "|".join(map(str, range(5, 30, 5))),
    "m": "|".join(map(str, range(30, 100))),
}
_CHOICES = {slot: tuple(words.split("|")) for slot, words in _WORDS.items()}
_ROUNDS = 4  # through the forms for each that is needed, before giving up on new ones


def general_requests(count: int, seed: int) -> list[str]:
    """At most ``count`` different requests, of all kinds in turn; the same ones for a seed."""
    pick = random.Random(seed)  # noqa: S311 - not for secrets
    found: dict[str, None] = {}  # a set that keeps its order
    for _ in range(_ROUNDS * math.ceil(count / len(_FORMS))):
        if len(found) < count:
            found |= dict.fromkeys(_filled(form, pick) for form in pick.sample(_FORMS, len(_FORMS)))
    return list(found)[:count]


def _filled(form: str, pick: random.Random) -> str:
    """A form with words in its slots; {topic} and {topic2} get different ones."""
    slots = dict.fromkeys(slot for _, slot, _, _ in Formatter().parse(form) if slot)
    words: dict[str, str] = {}
    for slot in slots:
        choices = _CHOICES[slot.rstrip("23")]
        words[slot] = pick.choice([word for word in choices if word not in words.values()])
    return form.format(**words)
