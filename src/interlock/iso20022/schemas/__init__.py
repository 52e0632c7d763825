"""Schema validation at the official grade, for every version that the packages know and every schema of the operator's.

`Catalogue` knows which versions there are, keeps the few schemas that are in use, and makes findings of what libxml2
says. What the elements mean it must not know; that is `rules`.

    the operator's folder of *.xsd ──────────────────┐
    packages: dataclasses ─ compiler ─ cache on disk ┤
              ready XSDs ────────────────────────────┴─ XSD text ─ libxml2 schema (bounded) ─ errors ─ findings
    folder/PROFILE/*.xsd: a scheme's restricted schemas, which judge after these

`packages` and `folder` say where schemas come from, `cache` keeps compiled ones, `registering` puts one into the
folder, `content` reads what may stand where, `loaded` is a schema in memory, `explain` and `wording` make findings of
libxml2's errors, and `catalogue` joins them all.
XMLParser(target=, schema=) is never used: it accepts invalid documents without a word.
"""

from interlock.iso20022.schemas.catalogue import Catalogue
from interlock.iso20022.schemas.content import Child
from interlock.iso20022.schemas.definitions import Definition, Source
from interlock.iso20022.schemas.folder import UserSchemaError
from interlock.iso20022.xsd import definition_of_namespace

__all__ = ["Catalogue", "Child", "Definition", "Source", "UserSchemaError", "definition_of_namespace"]
