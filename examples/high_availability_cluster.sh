#!/bin/sh
# A cluster of three coordinators and four workers on this machine: real processes, one of which may die at any time.
# A wrapper around `muster cluster`, whose exit codes it passes on.
#
#   examples/high_availability_cluster.sh start|stop|status|test|cleanup
#
# MUSTER: the program [default: muster]. MUSTER_CLUSTER_DIR: data and logs [default: ./muster-cluster].
muster=${MUSTER:-muster}
MUSTER_CLUSTER_DIR=${MUSTER_CLUSTER_DIR:-muster-cluster}
export MUSTER_CLUSTER_DIR

case ${1-} in
  start) exec "$muster" cluster up --coordinators 3 --workers 4 ;;
  stop) exec "$muster" cluster down ;;
  status) exec "$muster" cluster status ;;
  test) exec "$muster" cluster test ;;
  cleanup)
    # Down first: a cluster that lives is not removed.
    "$muster" cluster down && exec "$muster" cluster clean
    ;;
  *)
    echo "usage: $0 start|stop|status|test|cleanup" >&2
    exit 2
    ;;
esac
