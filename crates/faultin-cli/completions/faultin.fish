# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_faultin_global_optspecs
    string join \n h/help V/version
end

function __fish_faultin_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_faultin_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_faultin_using_subcommand
    set -l cmd (__fish_faultin_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c faultin -n "__fish_faultin_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c faultin -n "__fish_faultin_needs_command" -s V -l version -d 'Print version'
complete -c faultin -n "__fish_faultin_needs_command" -f -a "demo" -d 'Show three programs that die of SIGBUS, and the same accesses through faultin'
complete -c faultin -n "__fish_faultin_needs_command" -f -a "guard" -d 'Run any program; explain its SIGBUS, or wait for space, retry, or show zeros'
complete -c faultin -n "__fish_faultin_needs_command" -f -a "store" -d 'Try out what an object store (S3, GCS, Azure, or a server that is compatible with one) honours'
complete -c faultin -n "__fish_faultin_needs_command" -f -a "sum" -d 'Print or check BLAKE3 checksums of files that may change while they are read'
complete -c faultin -n "__fish_faultin_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c faultin -n "__fish_faultin_using_subcommand demo" -l device -d 'The full device of the second scene [default: the first of these that this machine supports]' -r -f -a "tmpfs\t'A tmpfs of 1 MiB, mounted in a user namespace'
huge-pages\t'Huge pages, if the pool of this machine is empty'"
complete -c faultin -n "__fish_faultin_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l wait-space -d 'Hold a thread that needs space until there is space, for at most MAX: a number with the unit ms, s (default), m or h, such as 90s, 10m or 2h [default MAX: no limit if standard error is a terminal, otherwise 10m]' -r
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l retry -d 'Repeat an access that failed with an I/O error, at most N times with growing pauses [default N: 12, which takes about 15 s]' -r
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l except -d 'Do not guard programs of this name (a debugger, a program with LeakSanitizer), nor the programs that they run; may be given several times' -r
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l report -d 'Write each event to FILE as one line of JSON; an existing file is overwritten' -r -F
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l explain -d 'Explain faults and change nothing [default]'
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l zero -d 'Let loads of lost data read zeros, and exit with status 74'
complete -c faultin -n "__fish_faultin_using_subcommand guard" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c faultin -n "__fish_faultin_using_subcommand store; and not __fish_seen_subcommand_from check help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c faultin -n "__fish_faultin_using_subcommand store; and not __fish_seen_subcommand_from check help" -f -a "check" -d 'Print a table of what a store honours: ranges, conditions on reads and writes, etags, read-after-write'
complete -c faultin -n "__fish_faultin_using_subcommand store; and not __fish_seen_subcommand_from check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c faultin -n "__fish_faultin_using_subcommand store; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c faultin -n "__fish_faultin_using_subcommand store; and __fish_seen_subcommand_from help" -f -a "check" -d 'Print a table of what a store honours: ranges, conditions on reads and writes, etags, read-after-write'
complete -c faultin -n "__fish_faultin_using_subcommand store; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l derive-key -d 'Derive a key from the contents of each file, in this context' -r
complete -c faultin -n "__fish_faultin_using_subcommand sum" -s l -l length -d 'Length of a checksum in bytes, at least 1' -r
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l seek -d 'Offset of the checksum in BLAKE3\'s output, in bytes' -r
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l num-threads -d 'Number of threads; 0 for one per core' -r
complete -c faultin -n "__fish_faultin_using_subcommand sum" -s c -l check -d 'Read lists of checksums from the files, and check the files that they name'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l quiet -d 'With --check: do not print a line for a file that has its checksum'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l strict -d 'Report every change of a file while it is read as an error, also of its attributes and its name'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l keyed -d 'Hash with a key of 32 bytes, which is read from standard input'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l no-names -d 'Print checksums without file names'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l tag -d 'Print in BSD style: BLAKE3 (name) = checksum'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l raw -d 'Print the checksum as bytes instead of hexadecimal digits; for one file only'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l no-mmap -d 'Read files with pread(2) instead of mapping them'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c faultin -n "__fish_faultin_using_subcommand help; and not __fish_seen_subcommand_from demo guard store sum help" -f -a "demo" -d 'Show three programs that die of SIGBUS, and the same accesses through faultin'
complete -c faultin -n "__fish_faultin_using_subcommand help; and not __fish_seen_subcommand_from demo guard store sum help" -f -a "guard" -d 'Run any program; explain its SIGBUS, or wait for space, retry, or show zeros'
complete -c faultin -n "__fish_faultin_using_subcommand help; and not __fish_seen_subcommand_from demo guard store sum help" -f -a "store" -d 'Try out what an object store (S3, GCS, Azure, or a server that is compatible with one) honours'
complete -c faultin -n "__fish_faultin_using_subcommand help; and not __fish_seen_subcommand_from demo guard store sum help" -f -a "sum" -d 'Print or check BLAKE3 checksums of files that may change while they are read'
complete -c faultin -n "__fish_faultin_using_subcommand help; and not __fish_seen_subcommand_from demo guard store sum help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c faultin -n "__fish_faultin_using_subcommand help; and __fish_seen_subcommand_from store" -f -a "check" -d 'Print a table of what a store honours: ranges, conditions on reads and writes, etags, read-after-write'
