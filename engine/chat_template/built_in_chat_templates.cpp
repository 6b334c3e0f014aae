#include "engine/chat_template/built_in_chat_templates.h"

namespace llmrun {
namespace {

// Qwen, Yi and many others. Source: OpenAI's ChatML as in the tokenizer_config.json of Qwen2.
constexpr std::string_view kChatml = R"jinja({%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- endif %}
)jinja";

// Llama 2 chat. Source: Touvron et al. 2023 and the template of meta-llama/Llama-2-7b-chat-hf.
constexpr std::string_view kLlama2 = R"jinja({%- if messages and messages[0]['role'] == 'system' %}
{%- set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
{%- set turns = messages[1:] %}
{%- else %}
{%- set system = '' %}
{%- set turns = messages %}
{%- endif %}
{%- for message in turns %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- if message['role'] == 'user' %}
{%- set content = (system if loop.first else '') + message['content'] %}
{{- (bos_token or '') + '[INST] ' + content.strip() + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}
{{- ' ' + message['content'].strip() + ' ' + (eos_token or '') }}
{%- else %}
{{- raise_exception('Only user and assistant roles are supported after the system message') }}
{%- endif %}
{%- endfor %}
)jinja";

// Vicuna 1.1 and 1.5. Source: FastChat, conversation.py, "vicuna_v1.1".
constexpr std::string_view kVicuna = R"jinja({%- if messages and messages[0]['role'] == 'system' %}
{%- set system = messages[0]['content'] %}
{%- set turns = messages[1:] %}
{%- else %}
{%- set system = "A chat between a curious user and an artificial intelligence assistant. "
                 "The assistant gives helpful, detailed, and polite answers "
                 "to the user's questions." %}
{%- set turns = messages %}
{%- endif %}
{{- (bos_token or '') + system + ' ' }}
{%- for message in turns %}
{%- if message['role'] == 'user' %}
{{- 'USER: ' + message['content'] + ' ' }}
{%- elif message['role'] == 'assistant' %}
{{- 'ASSISTANT: ' + message['content'] + '</s>' }}
{%- else %}
{{- raise_exception('Only user and assistant roles are supported after the system message') }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- 'ASSISTANT:' }}
{%- endif %}
)jinja";

// Baichuan 2 chat. Source: generation_utils.py of baichuan-inc/Baichuan2-13B-Chat, whose user and
// assistant tokens are 195 <reserved_106> and 196 <reserved_107>.
constexpr std::string_view kBaichuan2 = R"jinja({%- for message in messages %}
{%- if message['role'] == 'system' and loop.first %}
{{- message['content'] }}
{%- elif message['role'] == 'user' %}
{{- '<reserved_106>' + message['content'] }}
{%- elif message['role'] == 'assistant' %}
{{- '<reserved_107>' + message['content'] }}
{%- else %}
{{- raise_exception('Only a first system message, user and assistant are supported') }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<reserved_107>' }}
{%- endif %}
)jinja";

constexpr BuiltInChatTemplate kTemplates[] = {
    {"baichuan2", kBaichuan2},
    {"chatml", kChatml},
    {"llama2", kLlama2},
    {"vicuna", kVicuna},
};

}  // namespace

std::span<const BuiltInChatTemplate> built_in_chat_templates() {
  return kTemplates;
}

}  // namespace llmrun
