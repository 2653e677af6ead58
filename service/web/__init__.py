"""HTTP: connections, access, request bodies, routes, the Open Inference Protocol and the playground's files.

The only room that imports Starlette, FastAPI or uvicorn. It may import every room below it.
"""
