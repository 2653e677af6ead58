# A store as an image without a program, for a Kubernetes volume of type image (docker/kubernetes-image). From the store:
#   docker build -f docker/store.Dockerfile -t registry.example/shop/store:3 STORE
FROM scratch
COPY blobs /blobs
COPY tasks /tasks
