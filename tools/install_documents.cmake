# Run by `cmake --install`, which has set `llmrun` and `documents`: the installed program's man pages and shell completions, printed
# by the program into a folder from which they are installed.
function(print_document file)
  cmake_path(GET file PARENT_PATH folder)
  file(MAKE_DIRECTORY ${documents}/${folder})
  execute_process(COMMAND ${llmrun} ${ARGN} OUTPUT_FILE ${documents}/${file} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

print_document(bash-completion/completions/llmrun completion bash)
print_document(zsh/site-functions/_llmrun completion zsh)
print_document(fish/vendor_completions.d/llmrun.fish completion fish)
print_document(man/man1/llmrun.1 man)
foreach(command generate throughput serve-bench serve eval compare tokenize info)
  print_document(man/man1/llmrun-${command}.1 man ${command})
endforeach()
