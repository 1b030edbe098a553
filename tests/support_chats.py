"""Makes search_spaces/support_chats.jsonl, a lamp shop's support desk: `python -m tests.support_chats`.

The desk answers every message by one line, "team, urgency, order": which of eight teams takes it, by rules of the
shop's own that no model has read; how urgent it is; the number of the order that it is about. What a message does not
say is as it was said before: by default normal, and no order.
"""

import json
import random
from pathlib import Path

FILE = Path(__file__).parents[1] / "search_spaces" / "support_chats.jsonl"
NUM_CHATS = 400
TEAMS = {
    "Harbor": ("{it} has not arrived", "where is {it}", "the parcel with {it} is lost",
               "tracking shows nothing for {it}"),
    "Ledger": ("I was charged twice for {it}", "the price of {it} is wrong", "my invoice for {it} is missing",
               "I want my money back for {it}"),
    "Mender": ("{it} is broken", "{it} flickers", "{it} does not switch on", "{it} hums all night"),
    "Keyring": ("I cannot log in to see {it}", "my password fails when I look up {it}", "my account does not show {it}",
                "change my email for {it}"),
    "Carousel": ("I want to swap {it}", "{it} has the wrong colour", "you sent the wrong size of {it}",
                 "can I exchange {it}"),
    "Compass": ("send {it} to another address", "I have moved, deliver {it} elsewhere", "leave {it} with my neighbour",
                "my street is misspelt for {it}"),
    "Lantern": ("which bulb fits {it}", "how do I clean {it}", "may {it} hang outdoors", "is there a manual for {it}"),
    "Anchor": ("please cancel {it}", "I do not want {it} any more", "stop {it} before it ships",
               "take {it} off my order"),
}  # fmt: skip
ITEMS = ("the desk lamp", "the floor lamp", "my lantern", "the spotlight", "my reading lamp", "the chandelier")
URGENT = ("I need it today", "it is urgent", "guests come tonight", "please hurry")
SLOW = ("no hurry", "take your time", "whenever you can", "next month is fine")
OPENINGS = ("", "Hello, ", "Hi, ", "Good morning, ")


def chat(rng: random.Random) -> dict[str, list[dict[str, str]]]:
    """A row: one to three messages, each with its answer."""
    messages: list[dict[str, str]] = []
    team, urgency, order = "", "normal", "none"
    for turn in range(rng.choice((1, 2, 2, 3))):
        parts = []
        if turn == 0 or rng.random() < 0.5:
            team = rng.choice(list(TEAMS))
            parts.append(rng.choice(TEAMS[team]).format(it=rng.choice(ITEMS)))
        if rng.random() < 0.5 or not parts:
            urgency = rng.choice(("urgent", "slow"))
            parts.append(rng.choice(URGENT if urgency == "urgent" else SLOW))
        if rng.random() < 0.5:
            order = str(rng.randint(1000, 9999))
            parts.append(rng.choice(("order {}", "the number is {}", "it is order {}")).format(order))
        text = rng.choice(OPENINGS if turn == 0 else ("", "Also, ", "Well, ")) + ", ".join(parts) + "."
        messages.append({"role": "user", "content": text[0].upper() + text[1:]})
        messages.append({"role": "assistant", "content": f"{team}, {urgency}, {order}"})
    return {"messages": messages}


def chats() -> list[dict[str, list[dict[str, str]]]]:
    """All rows; no two have equal messages before the last answer."""
    rng, found = random.Random(1), {}
    while len(found) < NUM_CHATS:
        row = chat(rng)
        found.setdefault(json.dumps(row["messages"][:-1]), row)
    return list(found.values())


if __name__ == "__main__":
    FILE.write_text("".join(json.dumps(row) + "\n" for row in chats()), encoding="utf-8")
