"""One schema in memory, and its verdict on an element.

The error log of libxml2 belongs to the schema: hence the lock.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from lxml import etree

from interlock.iso20022.findings import Finding
from interlock.iso20022.schemas.content import Child, ContentModel
from interlock.iso20022.schemas.explain import Error, errors_of, findings_of

#: lxml writes a path for each error and walks all elder siblings for it. Over this product of errors and siblings (a
#: fifth of a second) a hostile message would stop the house for minutes, so its errors come without places.
_PATH_STEPS_MAX: Final = 100_000_000
_IS_LARGE: Final = etree.XPath("boolean(descendant::*[5001])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A schema, ready to validate; one to two MB."""

    schema: etree.XMLSchema
    model: ContentModel
    #: Name of the global element.
    root: str
    #: Who validates holds this until the log is read.
    lock: Lock = field(default_factory=Lock)
    #: Path -> children: answers ask for the same few paths again and again.
    _children: dict[tuple[str, ...], tuple[Child, ...]] = field(default_factory=dict)

    def judge(self, element: etree._Element, findings_max: int) -> tuple[Finding, ...]:
        """What the schema says against the element and all below it; empty if it is valid."""
        if _IS_LARGE(element) and (errors := self._errors_if_many(element)):
            return findings_of(errors, element, self.model, findings_max)
        with self.lock:
            if self.schema.validate(element):
                return ()
            errors = errors_of(self.schema.error_log)
        return findings_of(errors, element, self.model, findings_max)

    def children(self, path: Sequence[str]) -> tuple[Child, ...]:
        """The child elements of the one at the path below the root. Raises KeyError if there is none."""
        key = tuple(path)
        if key not in self._children:
            self._children[key] = self.model.children(self.root, key)
        return self._children[key]

    def _errors_if_many(self, element: etree._Element) -> list[Error]:
        """The errors of a large tree, without places, if they are so many that to find these would take too long.

        Empty if they are few, or none. The tree is validated as a stream, in which libxml2 gives no paths.
        """
        parser = etree.XMLParser(schema=self.schema, huge_tree=True, no_network=True, resolve_entities=False)
        with self.lock, suppress(etree.XMLSyntaxError):
            etree.fromstring(etree.tostring(element, with_tail=False), parser)
        errors = errors_of(parser.error_log)
        widest = max(len(node) for node in element.iter(etree.Element))
        return errors if len(errors) * widest > _PATH_STEPS_MAX else []
