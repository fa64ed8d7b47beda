# One image for every part of a fleet; EXTRAS says what it is for:
#   docker build --tag fedlp-agent .                                      a device
#   docker build --tag fedlp-coordinator --build-arg EXTRAS=coordinator . the coordinator
FROM python:3.11-slim

# PyTorch's CPU wheels; give another index for CUDA.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG EXTRAS=inference

RUN pip install --no-cache-dir --index-url "${TORCH_INDEX_URL}" torch

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY fedlp_edge fedlp_edge
COPY coordinator coordinator
COPY device_agent device_agent
COPY profiles profiles
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX_URL}" ".[${EXTRAS}]"

RUN useradd --create-home --uid 10001 fedlp && install -d -o fedlp -g fedlp /state /runs
USER fedlp
WORKDIR /home/fedlp
ENV FEDLP_STATE_DIR=/state \
    PYTHONUNBUFFERED=1
VOLUME ["/state", "/runs"]

ENTRYPOINT ["fedlp"]
CMD ["--help"]
