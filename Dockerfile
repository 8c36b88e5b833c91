# The production image: without the stand-ins' voice and recogniser, so GOOGLE_API_KEY and the Twilio account must be set.
FROM python:3.12-slim
ENV PYTHONUNBUFFERED=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 HOST=0.0.0.0 DATA_DIR=/data
WORKDIR /srv
RUN pip install --no-cache-dir uv && useradd --system --home /srv switchboard && mkdir /data && chown switchboard /data
COPY pyproject.toml README.md ./
# onnxruntime runs Pipecat's local models, which no call uses.
RUN uv sync --no-default-groups --no-install-package onnxruntime --no-cache
COPY server.py ./
COPY bot bot
COPY console console
COPY desk desk
COPY flows flows
COPY qa qa
COPY records records
USER switchboard
VOLUME /data
EXPOSE 7860
# One process serves many calls; SIGTERM lets them finish (bot/serve.py).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=2)"]
CMD [".venv/bin/python", "server.py", "--no-sample-call"]
