# jcl in a container; docs/container.md has the commands.
#   TORCH_INDEX  where PyTorch is taken from: its builds for a CPU, or for a version of CUDA (…/whl/cu130)
#   EXTRAS       optional packages of jcl, by commas
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=dicom-seg
# the compiler is for the kernels, which are built for the processor that they run on
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
# PyTorch alone comes from its own index; what it needs, with all others, from the usual one
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' /tmp/constraints.txt)"
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(echo /tmp/wheels/*.whl)[$EXTRAS]"

# Whoever runs it with --user has no home here: the built kernels and matplotlib's fonts go where all may write.
ENV XDG_CACHE_HOME=/cache MPLCONFIGDIR=/cache/matplotlib PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 jcl && mkdir --mode 1777 /cache
USER jcl
WORKDIR /data
ENTRYPOINT ["jcl"]
CMD ["--help"]
