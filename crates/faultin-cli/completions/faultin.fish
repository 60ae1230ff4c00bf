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

complete -c faultin -n "__fish_faultin_needs_command" -s h -l help -d 'Print help'
complete -c faultin -n "__fish_faultin_needs_command" -s V -l version -d 'Print version'
complete -c faultin -n "__fish_faultin_needs_command" -f -a "demo" -d 'Shows what kills a program that uses mapped memory, and what this library makes of it'
complete -c faultin -n "__fish_faultin_needs_command" -f -a "guard" -d 'Runs any program, and explains its "Bus error", waits for space, retries, or reads zeros'
complete -c faultin -n "__fish_faultin_needs_command" -f -a "sum" -d 'Prints or checks BLAKE3 checksums, on all cores'
complete -c faultin -n "__fish_faultin_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c faultin -n "__fish_faultin_using_subcommand demo" -l device -d 'What is full in the second scene [default: the first of these that this machine has]' -r -f -a "tmpfs\t'A file system in memory with room for 1 MiB, in a user namespace'
huge-pages\t'Huge pages, of which there are none'"
complete -c faultin -n "__fish_faultin_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l wait-space -d 'Hold a thread that needs space until there is some, for at most MAX (90s, 10m, 2h) [default MAX: none on a terminal, 10m elsewhere]' -r
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l retry -d 'Try input and output that failed up to N times again [default N: 12, within about 15 s]' -r
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l except -d 'Do not guard programs of this name, and what they run: debuggers, programs with LeakSanitizer' -r
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l report -d 'Write each event to a file, as a line of JSON' -r -F
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l explain -d 'Only explain [default]'
complete -c faultin -n "__fish_faultin_using_subcommand guard" -l zero -d 'Show zeros to loads of what is lost, and exit with 74'
complete -c faultin -n "__fish_faultin_using_subcommand guard" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l derive-key -d 'Derive a key from each file in the given context' -r
complete -c faultin -n "__fish_faultin_using_subcommand sum" -s l -l length -d 'Bytes of a checksum, at least 1' -r
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l seek -d 'Where a checksum begins in BLAKE3\'s output, in bytes' -r
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l num-threads -d 'Threads, 0 for one on each core' -r
complete -c faultin -n "__fish_faultin_using_subcommand sum" -s c -l check -d 'Read checksums from the files and check them'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l quiet -d 'With --check: do not print OK for each file that has its checksum'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l strict -d 'Every change of a file while it is read is an error, also of its attributes and its name'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l keyed -d 'Hash with a key, whose 32 bytes are read from standard input'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l no-names -d 'Leave the names out'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l tag -d 'Print in the style of BSD: BLAKE3 (name) = checksum'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l raw -d 'Print the bytes of the checksum themselves, of one file only'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -l no-mmap -d 'Read files with pread(2) instead of mapping them'
complete -c faultin -n "__fish_faultin_using_subcommand sum" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c faultin -n "__fish_faultin_using_subcommand help; and not __fish_seen_subcommand_from demo guard sum help" -f -a "demo" -d 'Shows what kills a program that uses mapped memory, and what this library makes of it'
complete -c faultin -n "__fish_faultin_using_subcommand help; and not __fish_seen_subcommand_from demo guard sum help" -f -a "guard" -d 'Runs any program, and explains its "Bus error", waits for space, retries, or reads zeros'
complete -c faultin -n "__fish_faultin_using_subcommand help; and not __fish_seen_subcommand_from demo guard sum help" -f -a "sum" -d 'Prints or checks BLAKE3 checksums, on all cores'
complete -c faultin -n "__fish_faultin_using_subcommand help; and not __fish_seen_subcommand_from demo guard sum help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
