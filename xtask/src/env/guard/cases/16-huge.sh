# Huge pages: a memfd on an empty pool is explained, and finishes when pages are added.
pool=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
[ -w $pool ] || skip "huge-pages: no pool of 2 MiB"
before=$(cat $pool)
trap 'echo $before >$pool' EXIT
echo 2 >$pool
[ "$(cat $pool)" -ge 2 ] || skip "huge-pages: none can be allocated"
for way in memfd private; do
    echo 2 >$pool
    ends 135 "$P/huge" $way
    ends 135 $G -- "$P/huge" $way
    says "no huge page of 2 MiB left" "vm.nr_hugepages"
    later "echo 8 >$pool"
    ends 0 $G --wait-space=20s -- "$P/huge" $way
    says "sum=4" "goes on"
    wait
done
