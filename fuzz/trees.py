"""Ways to spoil a message as a tree, by the schema of its version, and to draw whole messages from schemas."""

import copy
from random import Random
from typing import Final, cast

from lxml import etree

from fuzz.canaries import canary
from fuzz.spoiling import BYTES_MAX
from interlock.iso20022 import answers
from interlock.iso20022.schemas import Catalogue, definition_of_namespace
from interlock.iso20022.xsd import root_of
from tests.instances import Instances

_PARSER: Final = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
_ENCODINGS: Final = ("UTF-8", "UTF-8", "UTF-8", "UTF-16", "ISO-8859-1", "US-ASCII", "UTF-16BE")


def tree_of(content: bytes) -> etree._Element | None:
    """The tree of a message; None where it is no XML, or has a DOCTYPE, whose entities would multiply."""
    if b"<!DOCTYPE" in content or len(content) > BYTES_MAX:
        return None
    try:
        return etree.fromstring(content, _PARSER)
    except (etree.XMLSyntaxError, ValueError, LookupError):
        return None


class Trees:
    """Draws from the schemas of one catalogue, with one source of chance."""

    def __init__(self, catalogue: Catalogue, random: Random) -> None:
        self._catalogue = catalogue
        self._random = random
        self._instances: dict[str, Instances] = {}
        names = [definition.name for definition in catalogue.definitions()]
        self._answered = [name for name in names if answers.answer_definition(name) or answers.enquiry_definition(name)]
        self._others = names

    def drawn(self) -> bytes:
        """A message that its schema takes, of any version; mostly of one that is answered."""
        random = self._random
        name = random.choice(self._answered if random.random() < 0.8 else self._others)
        return etree.tostring(self._of(name).valid(), encoding="UTF-8")

    def spoilt(self, root: etree._Element, other: etree._Element | None) -> bytes:
        """A message with elements, values and attributes that are not as they were; perhaps some of another one's."""
        random = self._random
        instances = self._of(self._definition(root))
        changed = instances.mutant(root)
        if other is not None and random.random() < 0.3:
            self._graft(changed, other)
        if random.random() < 0.6:
            self._plant(changed)
        encoding, is_declared = random.choice(_ENCODINGS), random.random() < 0.7
        return cast("bytes", etree.tostring(changed, encoding=encoding, xml_declaration=is_declared))

    def planted(self, root: etree._Element) -> bytes:
        """A message with canaries in place of values, and nothing else changed."""
        changed = copy.deepcopy(root)
        self._plant(changed)
        return etree.tostring(changed, encoding="UTF-8")

    def _plant(self, root: etree._Element) -> None:
        random = self._random
        leaves = [one for one in root.iter(etree.Element) if len(one) == 0]
        share = random.choice((0.02, 0.1, 1))
        for leaf in leaves:
            if random.random() < share:
                leaf.text = canary(random)
            for name in leaf.attrib:
                if random.random() < share:
                    leaf.set(name, canary(random))

    def _graft(self, root: etree._Element, other: etree._Element) -> None:
        """A part of another message, as it is."""
        random = self._random
        parts = [one for one in other.iter(etree.Element) if sum(1 for _ in one.iter()) < 200]
        place = random.choice(list(root.iter(etree.Element)))
        if parts:
            place.insert(random.randint(0, len(place)), copy.deepcopy(random.choice(parts)))

    def _definition(self, root: etree._Element) -> str:
        """The version of the first Document; where it has none that is known, that of any other message."""
        for element in root.iter("{*}Document"):
            definition = definition_of_namespace(element.tag.rpartition("}")[0][1:])
            if definition is not None and self._catalogue.knows(definition):
                return definition
        return self._random.choice(self._answered)

    def _of(self, definition: str) -> Instances:
        if definition not in self._instances:
            xsd = self._catalogue.xsd(definition)
            self._instances[definition] = Instances(xsd, root_of(definition), self._random)
        return self._instances[definition]
