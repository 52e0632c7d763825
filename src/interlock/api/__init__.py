"""HTTP faces: the reference surface and v1. They translate, and know no rules.

`server` runs them, `asgi` tells requests apart. The calls that carry the load (`reference`, `messages`, `tokens`,
`health`) are plain ASGI; the wide rest of v1 is FastAPI's (`v1`), whose models (`views`) also make the OpenAPI
document.
"""
