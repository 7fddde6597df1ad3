"""What can be asked of the service, one file a topic."""

from oddsight.serve.routes import (
    compare,
    docs,
    feedback,
    history,
    images,
    inference,
    jobs,
    models,
    page,
    predict,
    status,
    uploads,
    watch,
)

ROUTERS = tuple(
    part.router
    for part in (
        predict, inference, status, models, compare, images, history, feedback, uploads, jobs, watch, docs, page
    )
)  # fmt: skip
