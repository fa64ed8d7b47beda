# One image for every part of a fleet; EXTRAS says what it is for, CONSTRAINTS for which processor:
#   docker build --tag fedlp-agent .                                      a device
#   docker build --tag fedlp-coordinator --build-arg EXTRAS=coordinator . the coordinator
#   docker build --tag fedlp-agent --build-arg CONSTRAINTS=armv8.0 .      a Raspberry Pi 3 or 4, a Jetson Nano
FROM python:3.11-slim-bookworm

# PyTorch's CPU wheels; give another index for CUDA.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG EXTRAS=inference,vision
# The versions that are installed: deploy/constraints-CONSTRAINTS.txt; empty is what the machine calls itself.
ARG CONSTRAINTS=

WORKDIR /src
COPY deploy/constraints-*.txt deploy/check_platform.py deploy/
# A file of one name for both steps; a wheel of the index may carry a suffix such as +cpu, which == takes as equal.
RUN cp "deploy/constraints-${CONSTRAINTS:-$(uname -m)}.txt" constraints.txt \
    && pip install --no-cache-dir --constraint constraints.txt --index-url "${TORCH_INDEX_URL}" torch torchvision

COPY pyproject.toml README.md LICENSE ./
COPY fedlp_edge fedlp_edge
COPY coordinator coordinator
COPY device_agent device_agent
COPY profiles profiles
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url "${TORCH_INDEX_URL}" ".[${EXTRAS}]"

# Another number (docker run --user, OpenShift) comes with the group 0, which may write as well. The user is named by
# number, so that Kubernetes sees that it is not root (runAsNonRoot).
RUN useradd --create-home --uid 10001 fedlp && install -d -o fedlp -g 0 -m 775 /state /runs
USER 10001
WORKDIR /home/fedlp
# The cache lies in the volume, so that a new container does not calibrate the machine again.
ENV FEDLP_STATE_DIR=/state \
    FEDLP_CACHE_DIR=/state/.cache \
    PYTHONUNBUFFERED=1
VOLUME ["/state", "/runs"]

ENTRYPOINT ["fedlp"]
CMD ["--help"]
